import { withTimeout } from '@dstack-cloud/runtime';
import { PolicyError } from '../../errors.ts';

/** @throws PolicyError `backend-timeout` when `work` takes longer */
export function withDeadline<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  const late = () => new PolicyError('backend-timeout', `no decision within ${timeoutMs} ms`);
  return withTimeout(work, timeoutMs, late);
}
