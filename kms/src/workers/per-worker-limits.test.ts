import { expect, test } from 'vitest';
import { checkConfig } from '../config/check-config.ts';
import { perWorkerLimits } from './per-worker-limits.ts';

test('what is bounded at a time is bounded for the service; rates are shared otherwise', () => {
  const config = checkConfig(
    {
      rpc: { workers: 3, tls: { max_connections: 100, max_connections_per_address: 40, max_handshakes: 31 } },
      core: { rate_limit: { max_verifications: 2, open_burst: 60 } },
    },
    {},
  );
  const { rpc, core } = perWorkerLimits(config);
  expect(rpc.tls.max_connections).toBe(34);
  expect(rpc.tls.max_connections_per_address).toBe(14);
  expect([rpc.tls.max_handshakes, rpc.tls.max_handshakes_per_address]).toEqual([11, 22]);
  expect(core.rate_limit.max_verifications).toBe(1);
  expect(core.rate_limit.open_burst).toBe(60);
  expect({ ...rpc, tls: config.rpc.tls }).toEqual(config.rpc);
});
