/** Append-only log of decisions: hash chain, Merkle tree (RFC 6962), signed heads, proofs. */
export { type AppendFile, type OpenAppendFile, openAppendFile } from './append-file.ts';
export { AuditLog, type AuditLogOptions } from './audit-log.ts';
export { AuditError, type AuditErrorCode } from './errors.ts';
export {
  followHandovers,
  type RootHandover,
  type RootNames,
  rootNames,
  signHandover,
} from './handover.ts';
export { verifyConsistency, verifyInclusion } from './merkle-tree.ts';
export type { AuditEntry, AuditRecord } from './record.ts';
export {
  auditKey,
  auditKeyCertifier,
  certifyAuditKey,
  type SignedTreeHead,
  verifyTreeHead,
} from './tree-head.ts';
export { type LogVerdict, verifyLog } from './verify-log.ts';
