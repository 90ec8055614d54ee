import { fromHex } from '@dstack-cloud/encoding';
import type { MessageInitShape, kms as proto } from '@dstack-cloud/prpc';
import type { Audit } from './audit-log.ts';

/** Most records in one answer. */
const MAX_PAGE = 1000;
const DEFAULT_PAGE = 100;

type Proof = MessageInitShape<typeof proto.AuditProofSchema>;
type Head = MessageInitShape<typeof proto.AuditHeadSchema>;
type Audited = { readonly audit: Audit };

/** The signed head of now. @throws RpcError */
export async function auditHead({ audit }: Audited): Promise<Head> {
  const head = await audit.head();
  const { size, root, timestamp, signature, publicKey, publicKeySignature, handovers } = head;
  return {
    treeSize: BigInt(size),
    rootHash: fromHex(root),
    timestamp: BigInt(timestamp),
    signature: fromHex(signature),
    publicKey: fromHex(publicKey),
    publicKeySignature: fromHex(publicKeySignature),
    handovers: handovers.map(({ from, to, signature: word }) => ({
      oldCaPubkey: fromHex(from.ca_pubkey),
      oldK256Pubkey: fromHex(from.k256_pubkey),
      oldAuditPubkey: fromHex(from.audit_pubkey),
      newCaPubkey: fromHex(to.ca_pubkey),
      newK256Pubkey: fromHex(to.k256_pubkey),
      newAuditPubkey: fromHex(to.audit_pubkey),
      signature: fromHex(word),
    })),
  };
}

/** That a record is in the log of a size; size 0 means now. @throws RpcError */
export async function inclusionProof(
  { audit }: Audited,
  { seq, treeSize }: proto.AuditInclusionRequest,
): Promise<Proof> {
  return proofOf(await audit.inclusionProof(Number(seq), Number(treeSize)));
}

/** That the log of one size is a prefix of that of another; size 0 means now. @throws RpcError */
export async function consistencyProof(
  { audit }: Audited,
  { first, second }: proto.AuditConsistencyRequest,
): Promise<Proof> {
  return proofOf(await audit.consistencyProof(Number(first), Number(second)));
}

/** Records for the admin listener, each as the canonical JSON that is hashed, with the signed head. */
export async function auditPage(
  kms: Audited,
  { fromSeq, limit }: proto.GetAuditLogRequest,
): Promise<MessageInitShape<typeof proto.GetAuditLogResponseSchema>> {
  const records = await kms.audit.records(Number(fromSeq), Math.min(limit || DEFAULT_PAGE, MAX_PAGE));
  return { records, head: await auditHead(kms) };
}

function proofOf(hashes: readonly string[]): Proof {
  return { hashes: hashes.map((hash) => fromHex(hash)) };
}
