import { expect, it } from 'vitest';
import { createLogger } from '../log.ts';
import { type RunProgram, waitForTime } from './secure-time.ts';

const log = createLogger('test');
const failing =
  (details: object): RunProgram =>
  async () =>
    Object.assign(new Error('Command failed: chronyc waitsync'), details);

it('waits for chrony with a limit, and goes on once the clock is set', async () => {
  const calls: unknown[] = [];
  await waitForTime('/', log, async (...call) => {
    calls.push(call);
    return undefined;
  });
  expect(calls).toEqual([['chronyc', ['waitsync', '20', '0.1', '0', '10'], 240_000]]);
});

it.each([
  ['no time server answers', { code: 1, killed: false }, /no time server answered within 200 s/],
  ['chrony hangs', { code: null, killed: true }, /chronyc does not answer/],
  ['there is no chrony', { code: 'ENOENT' }, /has no chronyc/],
])('ends the boot with what to do when %s', async (_, details, message) => {
  const error = await waitForTime('/', log, failing(details)).catch((cause: unknown) => cause);
  expect(error).toMatchObject({ code: 'time-not-synchronised', message: expect.stringMatching(message) });
  expect((error as Error).message).toMatch(/secure_time to false/);
});

it('asks nothing where a directory stands for the machine', async () => {
  const refuse: RunProgram = async () => new Error('asked');
  await waitForTime('/tmp/machine', log, refuse);
});
