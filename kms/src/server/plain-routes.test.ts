import { expect, test, vi } from 'vitest';
import { checkConfig } from '../config/check-config.ts';
import type { ClusterService } from '../kms.ts';
import { readyRoute } from './plain-routes.ts';

type Workers = Awaited<ReturnType<ClusterService['workers']>>;

const config = checkConfig({ rpc: { workers: 4 }, core: { onboard: { quote_enabled: false } } }, {});

/** Whether a process says that the service is ready, and how many workers it knows of. */
async function readiness(workers: () => Promise<Workers>): Promise<unknown> {
  const kms = {
    config,
    simulated: false,
    policy: { describe: async () => ({}) },
    self: {},
    service: { workers, exposition: async () => '' },
  };
  const route = readyRoute(kms as unknown as Parameters<typeof readyRoute>[0]);
  const handle = route.handle as () => Promise<{ status: number; body: string }>;
  const answer = await handle();
  const { ready, workers: counts } = JSON.parse(answer.body);
  return [answer.status, ready, counts];
}

test('ready is the service whose workers have all served, as long as one does', async () => {
  const said = (serving: number, started: boolean) =>
    readiness(async () => ({ configured: 4, serving, started }));
  expect(await said(4, true)).toEqual([200, true, { configured: 4, serving: 4 }]);
  expect(await said(1, true)).toEqual([200, true, { configured: 4, serving: 1 }]);
  expect(await said(0, true)).toEqual([503, false, { configured: 4, serving: 0 }]);
  expect(await said(3, false)).toEqual([503, false, { configured: 4, serving: 3 }]);
});

test('a worker that hears nothing of the primary is not ready', async () => {
  const unheard = [503, false, { configured: 4, serving: 0 }];
  expect(await readiness(() => Promise.reject(new Error('has ended')))).toEqual(unheard);
  vi.useFakeTimers();
  const waiting = readiness(() => new Promise(() => undefined));
  await vi.advanceTimersByTimeAsync(5_000);
  expect(await waiting).toEqual(unheard);
  vi.useRealTimers();
});
