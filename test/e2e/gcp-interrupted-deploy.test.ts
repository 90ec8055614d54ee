/**
 * A command that is killed at a call to Google, before or after it was done there: run again, it ends as if nothing had been.
 * One instance, one data disk, nothing orphaned.
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type GcpLab, gcpLab, INSTANCE, leftovers } from '../harness/gcp/gcp-lab.ts';

const BOOT_IMAGE = 'dstack-cloud-0-6-0-abababab';
const DATA = `${INSTANCE}-data`;
/** Kills of each command, at calls drawn anew; `DSTACK_KILLS=all` makes it every one. */
const KILLS = process.env['DSTACK_KILLS'] === 'all' ? Number.MAX_SAFE_INTEGER : 3;

let lab: GcpLab;
beforeAll(async () => {
  lab = await gcpLab();
  lab.setConfig({ data_size: 1 });
});
afterAll(() => lab?.cleanUp(), 60_000);

/** Kills the command at its call number `at`, before or after Google did what it asks. False when it ended before. */
async function kill(at: number, after: boolean, ...args: string[]): Promise<boolean> {
  const { gcp } = lab;
  gcp.forgetCalls();
  let silenced: () => void = () => undefined;
  const killed = new Promise<boolean>((resolve) => {
    silenced = () => resolve(true);
  });
  gcp.onSilence = silenced;
  gcp.fault = ({ number }) => (number === at ? (after ? 'silence-after' : 'silence') : undefined);
  const result = await Promise.race([killed, lab.cli(args).then(() => false)]);
  gcp.fault = undefined;
  // The locks of a killed process are free, and this one lives.
  const locks = join(lab.root, '.local/share/dstack-cloud/locks');
  for (const name of readdirSync(locks)) if (name.includes(`.${process.pid}-`)) rmSync(join(locks, name));
  return result;
}

/** What runs, and all that is there for it. */
function expectWhole(why: string): void {
  const { compute } = lab.gcp;
  const machine = compute.instances.get(INSTANCE);
  expect(machine?.body['status'], why).toBe('RUNNING');
  const attached = (machine?.body.disks ?? []).map(({ source }) => source.split('/').at(-1) ?? '');
  expect(attached, why).toHaveLength(3);
  expect(attached[1], why).toBe(DATA);
  const { disks, images, objects, instances } = leftovers(lab);
  expect({ instances, images, objects }, why).toEqual({
    ...{ instances: [INSTANCE], images: [BOOT_IMAGE], objects: [] },
  });
  expect(disks, why).toEqual([...attached].sort());
  expect(lab.state(), why).toMatchObject({ status: 'RUNNING', instance_name: INSTANCE });
}

function reset(): void {
  const { compute, storage } = lab.gcp;
  for (const all of [compute.instances, compute.disks, compute.images, storage.buckets]) all.clear();
  rmSync(join(lab.project, 'state.json'), { force: true });
}

/** Calls of a run that is let through. */
async function callsOf(...args: string[]): Promise<number> {
  lab.gcp.forgetCalls();
  await lab.must(...args);
  return lab.gcp.calls.filter(({ method }) => method !== 'GET').length === 0 ? 0 : lab.gcp.calls.length;
}

/** Calls that change something, and the first and the last, each before and after it is done; or some of them. */
function moments(count: number): [at: number, after: boolean][] {
  const changing = lab.gcp.calls
    .slice(0, count)
    .filter(({ method, path }) => method !== 'GET' && !path.endsWith('/wait'))
    .map(({ number }) => number);
  const all = [...new Set([1, ...changing, count])].flatMap((at): [number, boolean][] => [
    [at, false],
    [at, true],
  ]);
  expect(all.length).toBeGreaterThan(10);
  const drawn = all.map((moment) => [Math.random(), moment] as const).sort(([a], [b]) => a - b);
  return drawn.slice(0, KILLS).map(([, moment]) => moment);
}

describe('gcp-interrupted-deploy', () => {
  it('a first deploy', async () => {
    const all = moments(await callsOf('deploy'));
    for (const [at, after] of all) {
      reset();
      const why = `killed ${after ? 'after' : 'before'} call ${at}`;
      expect(await kill(at, after, 'deploy'), why).toBe(true);
      const { code, stderr } = await lab.cli(['deploy']);
      expect(code, `${why}: ${stderr}`).toBe(0);
      expectWhole(why);
    }
  }, 600_000);

  it('an update, which keeps the data disk', async () => {
    const data = lab.gcp.compute.disks.get(`us-central1-a/${DATA}`);
    const all = moments(await callsOf('deploy'));
    for (const [at, after] of all) {
      const why = `killed ${after ? 'after' : 'before'} call ${at}`;
      lab.setCompose(`nginx@sha256:${at.toString(16).padStart(63, '0')}${after ? 1 : 0}`);
      expect(await kill(at, after, 'deploy'), why).toBe(true);
      const { code, stderr } = await lab.cli(['deploy']);
      expect(code, `${why}: ${stderr}`).toBe(0);
      expectWhole(why);
      expect(lab.gcp.compute.disks.get(`us-central1-a/${DATA}`), why).toBe(data);
    }
  }, 600_000);

  it('a removal of everything', async () => {
    await lab.must('fw', 'allow', '80');
    const all = moments(await callsOf('remove', '--all', '--yes'));
    for (const [at, after] of all) {
      await lab.must('deploy');
      await lab.must('fw', 'allow', '80');
      const why = `killed ${after ? 'after' : 'before'} call ${at}`;
      expect(await kill(at, after, 'remove', '--all', '--yes'), why).toBe(true);
      const { code, stderr } = await lab.cli(['remove', '--all', '--yes']);
      expect(code, `${why}: ${stderr}`).toBe(0);
      expect(leftovers(lab), why).toEqual({
        ...{ instances: [], disks: [], images: [], firewalls: [], buckets: [], objects: [] },
      });
      expect(lab.state(), why).toMatchObject({ status: 'REMOVED' });
    }
  }, 600_000);

  it('asked for nothing that Google does not know', () => expect(lab.gcp.schemaErrors).toEqual([]));
});
