import { toHex } from '@dstack-cloud/encoding';
import type { PlainRoute } from '@dstack-cloud/prpc';
import { withTimeout } from '@dstack-cloud/runtime';
import { NONCE_SECONDS, type ServerNonces } from '../evidence/nonces.ts';
import type { Kms } from '../kms.ts';

const READY_TIMEOUT_MS = 5_000;

/** Liveness: the process answers. */
export const healthRoute: PlainRoute = { path: '/health', handle: () => ({ body: 'OK' }) };

/** Readiness: keys are loaded, the policy source answers, own evidence verifies (docs/protocol/kms.md section 4.1). */
export function readyRoute(
  kms: Pick<Kms, 'policy' | 'self' | 'config' | 'simulated' | 'service'>,
): PlainRoute {
  const inTime = <T>(check: Promise<T>): Promise<T | undefined> =>
    withTimeout(check, READY_TIMEOUT_MS).catch(() => undefined);
  const passes = async (check: Promise<unknown>): Promise<boolean> =>
    inTime(check.then(() => true)).then((passed) => passed === true);
  return {
    path: '/ready',
    handle: async () => {
      const [workers, policy, evidence] = await Promise.all([
        inTime(kms.service.workers()),
        passes(kms.policy.describe()),
        kms.config.core.enforce_self_authorization ? passes(kms.self.assertVerifies()) : true,
      ]);
      // A worker that is being replaced takes nothing away from the others.
      const serves = workers?.started === true && workers.serving > 0;
      const ready = policy && evidence && serves;
      const { configured = kms.config.workers, serving = 0 } = workers ?? {};
      const counts = { configured, serving };
      const { simulated } = kms;
      const body = JSON.stringify({ ready, keys: true, policy, evidence, workers: counts, simulated });
      return { status: ready ? 200 : 503, type: 'application/json', body };
    },
  };
}

/** A nonce for evidence to come; anybody may have one, it costs nothing and nothing is kept (section 10.2). */
export function nonceRoute(nonces: ServerNonces): PlainRoute {
  return {
    path: '/nonce',
    handle: () => ({
      type: 'application/json',
      headers: { 'Cache-Control': 'no-store' },
      body: JSON.stringify({ nonce: toHex(nonces.issue()), expires_in: NONCE_SECONDS }),
    }),
  };
}

/** Prometheus text (docs/protocol/kms.md section 4.2). */
export function metricsRoute({ service }: Pick<Kms, 'service'>): PlainRoute {
  return {
    path: '/metrics',
    handle: async () => ({
      type: 'text/plain; version=0.0.4; charset=utf-8',
      body: await service.exposition(),
    }),
  };
}
