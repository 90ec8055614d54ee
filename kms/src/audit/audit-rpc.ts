import { AuditError, type AuditLog } from '@dstack-cloud/audit-log';
import { fromHex } from '@dstack-cloud/encoding';
import { type MessageInitShape, type kms as proto, RpcError } from '@dstack-cloud/prpc';
import type { Kms } from '../kms.ts';

/** Most records in one answer. */
const MAX_PAGE = 1000;
const DEFAULT_PAGE = 100;

type Proof = MessageInitShape<typeof proto.AuditProofSchema>;

/** That a record is in the log of a size; size 0 means now. @throws RpcError */
export function inclusionProof({ audit }: Kms, { seq, treeSize }: proto.AuditInclusionRequest): Proof {
  const log = opened(audit.log);
  return prove(() => log.inclusionProof(Number(seq), Number(treeSize) || log.size));
}

/** That the log of one size is a prefix of that of another; size 0 means now. @throws RpcError */
export function consistencyProof({ audit }: Kms, { first, second }: proto.AuditConsistencyRequest): Proof {
  const log = opened(audit.log);
  return prove(() => log.consistencyProof(Number(first), Number(second) || log.size));
}

/** Records for the admin listener, each as the canonical JSON that is hashed, with the signed head. */
export async function auditPage(
  { audit }: Kms,
  { fromSeq, limit }: proto.GetAuditLogRequest,
): Promise<MessageInitShape<typeof proto.GetAuditLogResponseSchema>> {
  const log = opened(audit.log);
  const records = await log.records(Number(fromSeq), Math.min(limit || DEFAULT_PAGE, MAX_PAGE));
  return { records, head: audit.head() };
}

function opened(log: AuditLog | undefined): AuditLog {
  if (log !== undefined) return log;
  throw new RpcError('The audit log is switched off', { code: 'UNIMPLEMENTED' });
}

function prove(make: () => string[]): Proof {
  try {
    return { hashes: make().map((hash) => fromHex(hash)) };
  } catch (error) {
    if (!(error instanceof AuditError)) throw error;
    throw new RpcError(error.message, { code: 'INVALID_ARGUMENT', cause: error });
  }
}
