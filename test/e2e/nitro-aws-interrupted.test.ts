/**
 * A command that is killed at a call to AWS, before or after it was done there: run again, it ends as if nothing had been. One
 * instance, nothing orphaned.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from '@dstack-cloud/scripts/build';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AwsLab, awsLab, leftovers } from '../harness/aws/aws-lab.ts';
import { motoMissing } from '../harness/aws/moto.ts';

const missing = motoMissing();
const NONE = { instances: [], groups: [], volumes: [], roles: [], profiles: [], buckets: [], objects: [] };
/** Kills of each command, at calls drawn by chance; `DSTACK_KILLS=all npm run e2e -- nitro-aws-interrupted` makes it every one. */
const IS_EVERY = process.env['DSTACK_KILLS'] === 'all';
const KILLS = IS_EVERY ? Number.MAX_SAFE_INTEGER : 2;
const TEST_MS = IS_EVERY ? 3_600_000 : 900_000;
/** What changes nothing on AWS. */
const READS = /^(Describe|Get|List|HEAD|GET)/;

describe.skipIf(missing !== undefined)(`killed at a call to AWS (needs Python: ${missing ?? 'here'})`, () => {
  let lab: AwsLab;
  beforeAll(async () => {
    await build();
    lab = await awsLab();
  }, 600_000);
  afterAll(() => lab?.cleanUp(), 60_000);

  /** Kills the command at its call number `at`, before or after AWS did what it asks. False when it ended before. */
  async function kill(at: number, after: boolean, ...args: string[]): Promise<boolean> {
    const { aws } = lab;
    aws.forgetCalls();
    let silenced: () => void = () => undefined;
    const killed = new Promise<boolean>((resolve) => {
      silenced = () => resolve(true);
    });
    aws.onSilence = silenced;
    aws.fault = ({ number }) => (number === at ? (after ? 'silence-after' : 'silence') : undefined);
    const result = await Promise.race([killed, lab.cli(args).then(() => false)]);
    aws.fault = undefined;
    // The locks of a killed process are free, and this one lives.
    lab.freeLocks();
    return result;
  }

  /** Calls that change something, and the first and the last, each before and after it is done; or some of them. */
  async function moments(...args: string[]): Promise<[at: number, after: boolean][]> {
    lab.aws.forgetCalls();
    await lab.must(...args);
    const { calls } = lab.aws;
    const changing = calls.filter(({ name }) => !READS.test(name)).map(({ number }) => number);
    const all = [...new Set([1, ...changing, calls.length])].flatMap((at): [number, boolean][] => [
      [at, false],
      [at, true],
    ]);
    expect(all.length).toBeGreaterThanOrEqual(6);
    const drawn = all.map((moment) => [Math.random(), moment] as const).sort(([a], [b]) => a - b);
    return drawn.slice(0, KILLS).map(([, moment]) => moment);
  }

  async function expectWhole(why: string): Promise<void> {
    const left = await leftovers(lab);
    expect(left, why).toMatchObject({ instances: ['running'], objects: ['enclave.eif', 'programs.tar.gz'] });
    for (const name of ['groups', 'volumes', 'roles', 'profiles', 'buckets'])
      expect(left[name], why).toHaveLength(1);
    expect(lab.host().enclaves(), why).toMatchObject([{ EnclaveName: 'dstack', State: 'RUNNING' }]);
    expect(lab.state(), why).toMatchObject({ status: 'RUNNING' });
  }

  it(
    'nitro-aws-interrupted: a first deploy',
    async () => {
      for (const [at, after] of await moments('deploy')) {
        await lab.aws.reset();
        rmSync(join(lab.project, 'state.json'), { force: true });
        const why = `killed ${after ? 'after' : 'before'} call ${at}`;
        expect(await kill(at, after, 'deploy'), why).toBe(true);
        const { code, stderr } = await lab.cli(['deploy']);
        expect(code, `${why}: ${stderr}`).toBe(0);
        await expectWhole(why);
      }
    },
    TEST_MS,
  );

  it(
    'nitro-aws-interrupted: an update',
    async () => {
      await lab.setApp('two');
      for (const [at, after] of await moments('deploy')) {
        const why = `killed ${after ? 'after' : 'before'} call ${at}`;
        await lab.setApp(`three ${at} ${after}`);
        expect(await kill(at, after, 'deploy'), why).toBe(true);
        const { code, stderr } = await lab.cli(['deploy']);
        expect(code, `${why}: ${stderr}`).toBe(0);
        await expectWhole(why);
      }
    },
    TEST_MS,
  );

  it(
    'nitro-aws-interrupted: a stop and a start',
    async () => {
      await lab.must('deploy');
      for (const [at, after] of await moments('stop', '--host')) {
        await lab.must('start');
        const why = `killed ${after ? 'after' : 'before'} call ${at}`;
        expect(await kill(at, after, 'stop', '--host'), why).toBe(true);
        await lab.must('stop', '--host');
        expect(await leftovers(lab), why).toMatchObject({ instances: ['stopped'] });
        expect(await kill(2, after, 'start'), why).toBe(true);
        await lab.must('start');
        await expectWhole(why);
      }
    },
    TEST_MS,
  );

  it(
    'nitro-aws-interrupted: a removal of everything',
    async () => {
      for (const [at, after] of await moments('remove', '--all', '--yes')) {
        await lab.must('deploy');
        const why = `killed ${after ? 'after' : 'before'} call ${at}`;
        expect(await kill(at, after, 'remove', '--all', '--yes'), why).toBe(true);
        const { code, stderr } = await lab.cli(['remove', '--all', '--yes']);
        expect(code, `${why}: ${stderr}`).toBe(0);
        expect(await leftovers(lab), why).toEqual(NONE);
        expect(lab.state(), why).toMatchObject({ status: 'REMOVED' });
      }
      expect(lab.aws.schemaErrors).toEqual([]);
    },
    TEST_MS,
  );
});
