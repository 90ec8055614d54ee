import { RpcError } from '@dstack-cloud/prpc';
import type { Decided } from '../audit/audit-entry.ts';
import type { Kms } from '../kms.ts';

/**
 * That this KMS may answer an open method (docs/protocol/kms.md section 5.1). A refusal is a decision like any other:
 * it is recorded, with the identity of the KMS itself.
 * @throws RpcError
 */
export async function requireSelf(
  { self, audit }: Pick<Kms, 'self' | 'audit'>,
  event: Decided['event'],
): Promise<void> {
  try {
    await self.assertAllowed();
  } catch (error) {
    const reason = error instanceof RpcError ? error.message : 'internal error';
    const info = self.cachedIdentity();
    // That it could not be recorded changes nothing: it stays a refusal, and the log says so.
    await audit
      .record({ event, info, allowed: false, reason, blockNumber: undefined, keyEpoch: 0 })
      .catch(() => undefined);
    throw error;
  }
}
