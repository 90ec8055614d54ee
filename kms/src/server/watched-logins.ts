import { type LoginGuard, loginGuard } from '@dstack-cloud/prpc';
import type { Kms } from '../kms.ts';

/** Counts, logs and limits failed logins of a listener. */
export function watchedLogins(
  listener: 'admin' | 'onboard' | 'main',
  { metrics, log }: Pick<Kms, 'metrics' | 'log'>,
  now?: () => number,
): LoginGuard {
  return loginGuard((result, source) => {
    metrics.loginFailures.inc({ listener, result });
    metrics.refused.inc({ step: 'login' });
    if (result === 'wrong') log.warn({ source, listener }, 'login failed');
  }, now);
}
