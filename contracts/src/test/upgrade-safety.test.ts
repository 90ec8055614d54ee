/** OpenZeppelin's checker finds every recorded release and the present code safe to upgrade to the present code. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ProjectReport, validateUpgradeSafety } from '@openzeppelin/upgrades-core';
import type { Hex } from 'viem';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { releases } from '../artifact.ts';
import { buildContracts } from '../build.ts';
import type { CompilerRun } from '../compile.ts';
import { analyse, recorded, sourcesOf, upgradeable, writeBuildInfo } from './build-info.ts';

let directory: string;
const runs = new Map<string, CompilerRun>();
const codesOf = (release: (typeof releases)[number] | undefined): Map<string, string> =>
  new Map(upgradeable.map((name) => [name, recorded(release, name).bytecode]));

beforeAll(async () => {
  await buildContracts();
  directory = mkdtempSync(join(tmpdir(), 'build-info-'));
  for (const release of [...releases, undefined]) {
    const name = release === undefined ? 'now' : `v${release}`;
    const run = analyse(sourcesOf(release));
    runs.set(name, run);
    writeBuildInfo(join(directory, name), run, codesOf(release));
  }
}, 600_000);
afterAll(() => directory && rmSync(directory, { recursive: true, force: true }));

function check(from: string, to: string, name: string): Promise<ProjectReport> {
  return validateUpgradeSafety(
    join(directory, to),
    `contracts/${name}.sol:${name}`,
    `${from}:contracts/${name}.sol:${name}`,
    // `multicall` delegates to the contract itself and to nothing else.
    { unsafeAllow: ['delegatecall'] },
    [join(directory, from)],
  );
}

describe.each(upgradeable)('%s', (name) => {
  test.each(releases)('from release %s', async (release) => {
    const report = await check(`v${release}`, 'now', name);
    expect(report.explain(false)).toContain('(upgrades from');
    expect(report.ok, report.explain(false)).toBe(true);
  });

  test.each(releases)('the code of release %s is of the recorded sources', (release) => {
    const { metadata } = runs.get(`v${release}`)!.output.contracts![`contracts/${name}.sol`]![name]!;
    expect(recorded(release, name).deployedBytecode).toContain(metadataTail(metadata!));
  });
});

test('what would corrupt a proxy is found', async () => {
  const path = 'contracts/KmsStorage.sol';
  const before = sourcesOf(undefined).get(path)!;
  // A variable before the others, a value that no proxy has, a namespaced member before the others.
  const changed = before
    .replace(
      /(\n *KmsInfo public kmsInfo;)/,
      '\n    uint256 public moved;\n    uint256 public immutable madeAt = block.number;$1',
    )
    .replace(/(struct DstackKmsExt \{)/, '$1 uint64 inserted;');
  const folder = join(directory, 'broken');
  writeBuildInfo(folder, analyse(sourcesOf(undefined).set(path, changed)), codesOf(undefined));
  const report = await check('v3', 'broken', 'DstackKms');
  expect(report.ok).toBe(false);
  const words = report.explain(false);
  for (const found of [/Inserted `moved`/, /`madeAt` is immutable/, /Inserted `inserted`/])
    expect(words).toMatch(found);
}, 600_000);

/** How the compiler ends code: the IPFS hash of its metadata, which has the hash of every source and all settings. */
function metadataTail(metadata: string): string {
  const data = Buffer.from(metadata);
  const length = varint(data.length);
  const file = Buffer.concat([Buffer.from([0x08, 0x02, 0x12]), length, data, Buffer.from([0x18]), length]);
  const node = Buffer.concat([Buffer.from([0x0a]), varint(file.length), file]);
  const hash: Hex = `0x${createHash('sha256').update(node).digest('hex')}`;
  return `a2646970667358221220${hash.slice(2)}64736f6c6343000818`;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    bytes.push(rest < 0x80 ? rest : (rest & 0x7f) | 0x80);
    if (rest < 0x80) return Buffer.from(bytes);
  }
}
