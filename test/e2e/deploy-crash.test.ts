/** A deploy that is killed at any moment: the next command finds a machine that `state.json` tells the truth about. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { composeHash } from '@dstack-cloud/app';
import { toHex } from '@dstack-cloud/encoding';
import { changes, killedAt } from '@dstack-cloud/test/crash-points';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type LocalLab, localLab, setMode, stateOf, supervisorOf } from '../harness/local-lab.ts';

vi.mock('node:fs/promises', async (load) =>
  (await import('@dstack-cloud/test/crash-points')).watchFiles(await load()),
);

/** Kills are spread over a deploy; each costs two boots. */
const KILLS = 4;

let lab: LocalLab;
let project: string;
let count = 0;
beforeAll(async () => {
  lab = await localLab();
}, 120_000);
afterAll(() => lab?.cleanUp(), 60_000);

const cli = (...args: string[]) => lab.cli(['-C', project, ...args]);

/** As `killedAt`; the locks of a killed process are free, and this one lives. */
async function kill(at: number, ...args: string[]): Promise<boolean> {
  const happened = await killedAt(at, () => cli(...args));
  const folders = [
    join(lab.root, '.local/share/dstack-cloud/locks'),
    ...machines().map((name) => join(lab.runPath, name)),
  ];
  for (const folder of folders)
    for (const name of readdirSync(folder))
      if (name.includes(`.${process.pid}-`) && name.endsWith('.lock')) rmSync(join(folder, name));
  return happened;
}

/** Half-made ones have hidden names, and are swept when their process is gone: this one lives. */
function machines(): string[] {
  return existsSync(lab.runPath) ? readdirSync(lab.runPath).filter((name) => !name.startsWith('.')) : [];
}

/** What `state.json` says, what the machine was given, and what runs are one thing. */
function expectTruth(): void {
  const { machine_dir: dir, compose_hash, status } = stateOf(project);
  const given = readFileSync(join(dir, 'shared/app-compose.json'));
  expect(toHex(composeHash(given))).toBe(compose_hash);
  expect(supervisorOf(dir) === undefined).toBe(status !== 'RUNNING');
  expect(readdirSync(dir).filter((name) => /^\.(previous|update)/.test(name))).toEqual([]);
}

async function remove(): Promise<void> {
  expect((await cli('remove', '--yes')).code).toBe(0);
  expect(machines()).toEqual([]);
}

const KINDS: readonly (readonly [string, readonly string[]])[] = [
  ['an update', []],
  ['a new machine with the old data', ['--delete']],
  ['a new machine with new data', ['--delete-data', '--yes']],
];

describe('a deploy that is killed', () => {
  test.each(KINDS)(
    'check-then-swap: %s, killed on its way',
    async (_name, flags) => {
      project = await lab.project(`crash${count++}`);
      expect((await cli('deploy')).code).toBe(0);
      const data = join(stateOf(project).machine_dir, 'guest/dstack/persistent');
      mkdirSync(data, { recursive: true });
      writeFileSync(join(data, 'precious'), '');
      // One that is let through, to know how many moments there are.
      setMode(project, 'ok', 'whole');
      await killedAt(Number.MAX_SAFE_INTEGER, () => cli('deploy'));
      const all = changes();
      expect(all).toBeGreaterThan(20);
      for (let turn = 0; turn < KILLS; turn += 1) {
        const at = 1 + Math.floor(((turn + Math.random()) * all) / KILLS);
        const before = stateOf(project);
        setMode(project, 'ok', `turn ${turn}`);
        const killed = await kill(at, 'deploy', ...flags);
        const why = `${flags.join(' ')} killed at change ${at} of ${all}: ${killed}`;
        // Whatever happened, everything is there to be seen.
        const status = await cli('status', '--json');
        expect(status.code, why + status.stderr).toBe(0);
        // Then one goes back, or on.
        const next = turn % 2 === 0 ? 'start' : 'deploy';
        const { code, stderr } = await cli(next);
        expect(code, `${why}, then ${next}: ${stderr}`).toBe(0);
        expectTruth();
        const after = stateOf(project);
        const isNew = after.compose_hash !== before.compose_hash;
        if (next === 'deploy') expect(isNew, why).toBe(true);
        if (!isNew) expect(after.machine_dir, why).toBe(before.machine_dir);
        const isKept = existsSync(join(after.machine_dir, 'guest/dstack/persistent/precious'));
        if (after.machine_dir === before.machine_dir)
          expect(isKept, why).toBe(existsSync(join(before.machine_dir, 'guest/dstack/persistent/precious')));
        expect(machines(), why).toHaveLength(1);
      }
      await remove();
    },
    180_000,
  );

  test('check-then-swap: the first one, killed on its way', async () => {
    project = await lab.project(`crash${count++}`);
    for (let at = 1; ; at += 5) {
      const killed = await kill(at, 'deploy');
      const status = await cli('status', '--json');
      expect(status.code, status.stderr).toBe(0);
      if (!killed) break;
      const { code, stderr } = await cli(at % 4 === 1 ? 'deploy' : 'remove', '--yes');
      expect(code, stderr).toBe(0);
      expect(machines().length).toBeLessThanOrEqual(1);
    }
    expectTruth();
    await remove();
  }, 180_000);
});
