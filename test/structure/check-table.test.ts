/**
 * The table of checks in docs/attestation.md, the sentences that the browser shows, and the ids in the code are the
 * same set; and whatever refuses evidence of the fixtures stands in the table with its code.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CHECK_TITLES, checkPattern, verifyFile } from '@dstack-cloud/verifier/browser';
import { describe, expect, test } from 'vitest';
import { mockCases, realCases, wrappedCases } from '../harness/verifier-cases.ts';
import { describeWithFixtures } from '../support/fixtures.ts';

const repository = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

const AREAS =
  'app|collateral|evidence|tdx|sgx|tpm|gcp|nitro|nitro-tpm|snp|image|pod|config|report-data|ratls';
/** Ids as they are written: literals, and templates with something variable in them. */
const ID = new RegExp(`['\`]((?:(?:${AREAS})\\.[a-zA-Z0-9.$\{}-]+)|report-data|time)['\`]`, 'g');
/** Where checks are made; the attester makes none. */
const SOURCES = [
  'packages/attestation/src',
  'packages/verifier/src/findings',
  'packages/verifier/src/command',
];

interface Row {
  readonly title: string;
  readonly codes: readonly string[];
}

function table(): Map<string, Row> {
  const text = readFileSync(join(repository, 'docs/attestation.md'), 'utf8');
  return new Map(
    [...text.matchAll(/^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$/gm)].map(([, id, title, codes]) => [
      id!,
      { title: title!, codes: [...codes!.matchAll(/`([^`]+)`/g)].map((match) => match[1]!) },
    ]),
  );
}

function sources(directory: string): string[] {
  return readdirSync(directory).flatMap((name) => {
    const path = join(directory, name);
    if (statSync(path).isDirectory()) return name === 'attester' ? [] : sources(path);
    return name.endsWith('.ts') && !name.endsWith('.test.ts') ? [path] : [];
  });
}

/** As regular expressions: what stands for a variable may be any name. */
function idsInSource(): { literals: Set<string>; templates: RegExp[] } {
  const texts = SOURCES.flatMap((path) => sources(join(repository, path))).map((path) =>
    readFileSync(path, 'utf8').replace(/^import .*$/gm, ''),
  );
  const found = texts.flatMap((text) => [...text.matchAll(ID)].map((match) => match[1]!));
  const templates = found
    .filter((id) => id.includes('$'))
    .map((id) => new RegExp(`^${id.replace(/\./g, '\\.').replace(/\$\{[^}]*\}/g, '[a-zA-Z0-9*-]+')}$`));
  return { literals: new Set(found.filter((id) => !id.includes('$'))), templates };
}

describe('table of checks', () => {
  const rows = table();
  const { literals, templates } = idsInSource();

  test('says what the browser says', () => {
    expect(Object.fromEntries([...rows].map(([id, { title }]) => [id, title]))).toEqual(CHECK_TITLES);
  });

  test('has every id of the code', () => {
    expect([...literals].filter((id) => !rows.has(checkPattern(id)))).toEqual([]);
    expect(templates.filter((pattern) => ![...rows.keys()].some((id) => pattern.test(id)))).toEqual([]);
    expect(literals.size).toBeGreaterThan(80);
  });

  test('has no id that is not in the code', () => {
    const inCode = (id: string): boolean => literals.has(id) || templates.some((pattern) => pattern.test(id));
    expect([...rows.keys()].filter((id) => !inCode(id))).toEqual([]);
  });

  test('names only codes that exist', () => {
    const text = ['attestation', 'verifier']
      .map((name) => readFileSync(join(repository, `packages/${name}/src/errors.ts`), 'utf8'))
      .join('\n');
    const known = [...text.matchAll(/\| '([a-z-]+)'/g)].map((match) => match[1]!);
    const named = new Set([...rows.values()].flatMap(({ codes }) => codes));
    expect([...named].filter((code) => !known.includes(code))).toEqual([]);
    expect([...rows.values()].every(({ codes }) => codes.length > 0)).toBe(true);
  });

  describeWithFixtures('on the fixtures', 'mock-evidence/expected.json', () => {
    test('has every check that was made, and every code with which one refused', async () => {
      const missing = new Set<string>();
      for (const { name, input } of [...realCases(), ...wrappedCases(), ...mockCases()]) {
        const { report } = await verifyFile(input);
        for (const { id, ok } of report.checks) {
          const row = rows.get(checkPattern(id));
          if (!row) missing.add(`${id} of ${name}`);
          else if (!ok && !row.codes.includes(report.code!)) missing.add(`${id}: ${report.code} of ${name}`);
        }
      }
      expect([...missing]).toEqual([]);
    }, 60_000);
  });
});
