import type { VerifiedBootInfo } from '@dstack-cloud/attestation';
import { type Decision, type Policy, PolicyError } from '@dstack-cloud/policy';
import { RpcError } from '@dstack-cloud/prpc';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';

/** What the question needs. */
export type Asking = { readonly policy: Policy; readonly metrics: Metrics; readonly log: Log };

/** Asks the policy source and counts the answer. @throws RpcError when it cannot be asked: no answer is a refusal */
export async function askPolicy(kms: Asking, kind: 'app' | 'kms', info: VerifiedBootInfo): Promise<Decision> {
  const end = kms.metrics.authDuration.startTimer();
  try {
    const decision = await kms.policy.authorize(kind, info);
    const result = decision.allowed ? 'allowed' : (decision.failure ?? 'denied');
    kms.metrics.authRequests.inc({ result });
    return decision;
  } catch (error) {
    kms.metrics.authRequests.inc({ result: 'error' });
    if (!(error instanceof PolicyError)) throw error;
    kms.log.error({ code: error.code, detail: error.detail, kind }, 'policy source failed');
    const code = error.code === 'invalid-request' ? 'INVALID_ARGUMENT' : 'UNAVAILABLE';
    throw new RpcError(error.message, { code, cause: error });
  } finally {
    end();
  }
}

/** The refusal that a decision stands for; its text is matched by operators (docs/protocol/kms.md section 5.2). */
export function denial(prefix: string, { reason, failure }: Decision): RpcError {
  return new RpcError(`${prefix}${reason}`, {
    code: failure === undefined ? 'MEASUREMENT_NOT_FOUND' : 'UNAVAILABLE',
  });
}
