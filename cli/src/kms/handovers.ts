import { AuditError, followHandovers, type RootHandover } from '@dstack-cloud/audit-log';
import { equalBytes, fromHex, toHex } from '@dstack-cloud/encoding';

/** The signer of an audit log: a root, and the audit key that it certified. */
export interface AuditSigner {
  /** Compressed k256 key, hex without 0x. */
  readonly rootKey: string;
  /** Compressed audit key, 33 bytes. */
  readonly publicKey: Uint8Array;
}

/** The hand-overs of an answer of the KMS, not yet believed. @throws EncodingError, Error */
export function readHandovers(value: unknown): RootHandover[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new Error('handovers are no list');
  return value.map((item: Readonly<Record<string, unknown>>) => {
    const names = (side: 'old' | 'new') => ({
      caPubkey: fromHex(String(item[`${side}_ca_pubkey`]), { length: 91 }),
      k256Pubkey: fromHex(String(item[`${side}_k256_pubkey`]), { length: 33 }),
      auditPubkey: fromHex(String(item[`${side}_audit_pubkey`]), { length: 33 }),
    });
    const signature = fromHex(String(item['signature']), { length: 65 });
    return { from: names('old'), to: names('new'), signature };
  });
}

/**
 * That the log went from one signer to another by the word of each root before the next. From a root that is merely
 * trusted, its audit key need not be known.
 * @throws AuditError `proof-invalid`
 */
export function checkHandover(
  handovers: readonly RootHandover[],
  from: Pick<AuditSigner, 'rootKey'> & Partial<AuditSigner>,
  to: AuditSigner,
): void {
  const way = followHandovers(handovers, from.rootKey, to.rootKey);
  const [first, last] = [way[0], way.at(-1)];
  // Without a hand-over the root is the same, and so must be its audit key.
  const begins =
    from.publicKey === undefined || equalBytes(first?.from.auditPubkey ?? to.publicKey, from.publicKey);
  const ends = last === undefined || equalBytes(last.to.auditPubkey, to.publicKey);
  if (begins && ends) return;
  throw new AuditError('proof-invalid', `The hand-overs do not lead to audit key ${toHex(to.publicKey)}`);
}
