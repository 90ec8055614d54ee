import type { IncomingMessage } from 'node:http';
import { LOGINS_PER_MINUTE } from '@dstack-cloud/prpc';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { createMetrics } from '../telemetry/metrics.ts';
import { watchedLogins } from './watched-logins.ts';

function guard() {
  let now = 0;
  const lines: string[] = [];
  const metrics = createMetrics({ version: '0', simulated: false, imageVerified: true });
  const log = pino({}, { write: (line: string) => void lines.push(line) });
  const logins = watchedLogins('admin', { metrics, log }, () => now);
  const from = (remoteAddress: string) => ({ socket: { remoteAddress } }) as IncomingMessage;
  return {
    lines,
    pass: (ms: number) => {
      now += ms;
    },
    login: (address: string, isRight: boolean) => logins.check(from(address), async () => isRight),
    count: async (result: string) => {
      const { values } = await metrics.loginFailures.get();
      return values.find(({ labels }) => labels.listener === 'admin' && labels.result === result)?.value;
    },
  };
}

test('a network that shows ten wrong credentials is not looked at for a while, others are', async () => {
  const { login, pass, lines, count } = guard();
  for (let tries = 0; tries < LOGINS_PER_MINUTE; tries++)
    expect(await login('192.0.2.1', false)).toBe('wrong');
  expect(await login('192.0.2.1', true)).toBe('limited');
  expect(await login('192.0.2.2', true)).toBe('right');
  pass(6_000);
  expect(await login('192.0.2.1', true)).toBe('right');
  expect([await count('wrong'), await count('limited')]).toEqual([10, 1]);
  expect(lines).toHaveLength(10);
  expect(JSON.parse(lines[0]!)).toMatchObject({
    msg: 'login failed',
    source: '192.0.2.1',
    listener: 'admin',
  });
});

test('right credentials cost nothing, and many wrong ones at once count each', async () => {
  const { login } = guard();
  for (let tries = 0; tries < 50; tries++) expect(await login('192.0.2.1', true)).toBe('right');
  const results = await Promise.all(Array.from({ length: 30 }, () => login('192.0.2.1', false)));
  expect(results.filter((result) => result === 'wrong')).toHaveLength(LOGINS_PER_MINUTE);
});
