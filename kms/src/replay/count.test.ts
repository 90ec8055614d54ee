/** That nothing recorded is forgotten: every exchange and every observation is replayed, or named with a reason. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeWithFixtures, fixtureJson, fixturePath } from '@dstack-cloud/test/fixtures';
import { expect, test } from 'vitest';
import { fullItems } from '../test/recorded-full.ts';
import {
  exchanges,
  inventory,
  NOT_REPLAYED,
  observations,
  REPLAYED_BY,
  type RecordedFile,
} from '../test/replay-plan.ts';
import { differenceIds, differenceOf } from '../test/wanted-differences.ts';

/** Files that hold no exchanges: what they say is checked by the test named. */
const OTHER_FILES: Readonly<Record<string, string>> = {
  'baseline.json': 'figures of the original: test/bench/kms.ts has them beside ours',
  'certificates.json': 'certificates.test.ts',
  'evidence.json': 'full.test.ts, recorded guests',
  'expected.json': 'certificates.test.ts',
  'key-directories.json': 'root-keys.test.ts',
};

describeWithFixtures('inventory of kms-original', 'kms-original/full/main-rpc.json', () => {
  const files = Object.keys(REPLAYED_BY) as RecordedFile[];
  const sourceOf = (name: string): string => readFileSync(join(import.meta.dirname, name), 'utf8');

  test('every file of the larger recording has a test', () => {
    const names = readdirSync(fixturePath('kms-original/full')).filter((name) => name.endsWith('.json'));
    const known = [...files.map((file) => `${file}.json`), ...Object.keys(OTHER_FILES)];
    expect(names.sort()).toEqual(known.sort());
  });

  test('recorded = replayed + named exceptions, with their numbers', () => {
    for (const { file, recorded, replayed, excepted } of inventory()) {
      expect([file, recorded]).toEqual([file, replayed + excepted]);
    }
    const sum = (of: 'recorded' | 'replayed' | 'excepted') =>
      inventory().reduce((total, entry) => total + entry[of], 0);
    const { cases, onboard } = fixtureJson<{ cases: unknown[]; onboard: unknown[] }>(
      'kms-original/transcript.json',
    );
    expect(cases.length + onboard.length).toBe(76);
    expect([sum('recorded'), sum('replayed'), sum('excepted')]).toEqual([428, 426, 2]);
    expect(Object.keys(NOT_REPLAYED)).toHaveLength(sum('excepted'));
  });

  test('every file of exchanges is run whole by its test', () => {
    for (const file of files.filter((name) => exchanges(name).length > 0)) {
      const source = sourceOf(REPLAYED_BY[file]);
      expect([file, source.includes(`'${file}'`)]).toEqual([file, true]);
    }
  });

  test('every observation has a test of its name', () => {
    const sources = [...new Set(Object.values(REPLAYED_BY))].map(sourceOf).join('\n');
    const missing = files
      .flatMap((file) => observations(file).map(({ id }) => [`${file}/${id}`, `'${id}'`] as const))
      // A list of steps has the ids as names.
      .filter(([name, id]) => !sources.includes(name) && !sources.includes(id));
    expect(missing).toEqual([]);
  });

  test('every exception and every wanted difference is about something recorded, and says why', () => {
    const { cases, onboard } = fixtureJson<Record<'cases' | 'onboard', { name: string }[]>>(
      'kms-original/transcript.json',
    );
    const ids = new Set([
      ...files.flatMap((file) => fullItems(file).flatMap(({ id }) => [id, `${file}/${id}`])),
      ...[...cases, ...onboard].map(({ name }) => `onboard-bootstrap/${name}`),
    ]);
    expect([...differenceIds(), ...Object.keys(NOT_REPLAYED)].filter((id) => !ids.has(id))).toEqual([]);
    for (const id of differenceIds()) {
      const [file, name] = id.includes('/') ? (id.split('/') as [string, string]) : ['', id];
      expect(differenceOf(name, file)?.reason.length).toBeGreaterThan(10);
    }
  });
});
