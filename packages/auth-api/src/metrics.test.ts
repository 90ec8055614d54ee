import { expect, test } from 'vitest';
import { createMetrics } from './metrics.ts';

test('the lag of a chain that was never read, or is no longer, is absent and not 0', async () => {
  let lag: number | undefined;
  const { registry } = createMetrics(() => lag);
  const series = async () => /^dstack_onchain_sync_lag_seconds (\d+)$/m.exec(await registry.metrics())?.[1];
  expect(await series()).toBeUndefined();
  lag = 7;
  expect(await series()).toBe('7');
  lag = undefined;
  expect(await series()).toBeUndefined();
});
