import type { PlainRoute } from '@dstack-cloud/prpc';
import { deadlineOf } from '../deadline.ts';
import type { Kms } from '../kms.ts';

const READY_TIMEOUT_MS = 5_000;

/** Liveness: the process answers. */
export const healthRoute: PlainRoute = { path: '/health', handle: () => ({ body: 'OK' }) };

/** Readiness: keys are loaded, the policy source answers, own evidence verifies (chapter 10 section 10.2). */
export function readyRoute(kms: Pick<Kms, 'policy' | 'self' | 'config' | 'simulated'>): PlainRoute {
  const passes = async (check: Promise<unknown>): Promise<boolean> =>
    deadlineOf(check, READY_TIMEOUT_MS).then(
      () => true,
      () => false,
    );
  return {
    path: '/ready',
    handle: async () => {
      const [policy, evidence] = await Promise.all([
        passes(kms.policy.describe()),
        kms.config.core.enforce_self_authorization ? passes(kms.self.identity()) : true,
      ]);
      const ready = policy && evidence;
      const body = JSON.stringify({ ready, keys: true, policy, evidence, simulated: kms.simulated });
      return { status: ready ? 200 : 503, type: 'application/json', body };
    },
  };
}

/** Prometheus text (chapter 10 section 7.3). */
export function metricsRoute({ metrics }: Pick<Kms, 'metrics'>): PlainRoute {
  return {
    path: '/metrics',
    handle: async () => {
      await Promise.all(metrics.beforeScrape.map((refresh) => refresh()));
      return {
        type: 'text/plain; version=0.0.4; charset=utf-8',
        body: await metrics.registry.metrics(),
      };
    },
  };
}
