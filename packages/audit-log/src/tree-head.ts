import { ByteWriter, concatBytes, equalBytes, fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { hkdf, recoverK256, signK256 } from '@dstack-cloud/keys';
import { z } from 'zod';
import { AuditError } from './errors.ts';

/** The state of the log at one moment, signed by the audit key. */
export type SignedTreeHead = {
  /** Number of records. */
  size: number;
  /** Unix seconds; never before that of an earlier head. */
  timestamp: number;
  /** Hex, 32 bytes. */
  root: string;
  /** Hex, 65 bytes: secp256k1 over Keccak-256, r || s || v. */
  signature: string;
};

const headSchema = z.strictObject({
  size: z.number().int().nonnegative(),
  timestamp: z.number().int().nonnegative(),
  root: z.string().regex(/^[0-9a-f]{64}$/),
  signature: z.string().regex(/^[0-9a-f]{130}$/),
});

const PREFIX = utf8('dstack-kms-audit:');

/** The audit key of a root: HKDF of the k256 root, context `audit-log-key` (docs/protocol/kms.md section 9.2). */
export function auditKey(k256Root: Uint8Array): Uint8Array {
  return hkdf(k256Root, [utf8('audit-log-key')], 32);
}

const KEY_PREFIX = utf8('dstack-kms-audit-key:');

/** The root's word for its audit key: who trusts the root, for instance because it stands on chain, can trust the log. */
export function certifyAuditKey(publicKey: Uint8Array, k256Root: Uint8Array): Uint8Array {
  return signK256(concatBytes(KEY_PREFIX, publicKey), k256Root);
}

/**
 * The compressed root key (33 bytes) that certified an audit key.
 * @throws AuditError `proof-invalid`
 */
export function auditKeyCertifier(publicKey: Uint8Array, signature: Uint8Array): Uint8Array {
  try {
    return recoverK256(concatBytes(KEY_PREFIX, publicKey), signature);
  } catch (cause) {
    throw new AuditError('proof-invalid', 'The signature over the audit key names no root', { cause });
  }
}

/** What is signed: `dstack-kms-audit:` || size (u64 BE) || timestamp (u64 BE) || root. */
function signedText({ size, timestamp, root }: Omit<SignedTreeHead, 'signature'>): Uint8Array {
  const numbers = new ByteWriter();
  numbers.u64be(BigInt(size));
  numbers.u64be(BigInt(timestamp));
  return concatBytes(PREFIX, numbers.finish(), fromHex(root));
}

/** Signs a head. @param key audit key, 32 bytes */
export function signTreeHead(
  size: number,
  timestamp: number,
  root: Uint8Array,
  key: Uint8Array,
): SignedTreeHead {
  const head = { size, timestamp, root: toHex(root) };
  return { ...head, signature: toHex(signK256(signedText(head), key)) };
}

/**
 * A head from foreign JSON, its signature checked.
 * @param publicKeys audit public keys, compressed, 33 bytes, of which one must have signed
 * @throws AuditError `malformed`, `proof-invalid`
 */
export function verifyTreeHead(
  value: unknown,
  publicKeys: Uint8Array | readonly Uint8Array[],
): SignedTreeHead {
  const parsed = headSchema.safeParse(value);
  if (!parsed.success) throw new AuditError('malformed', z.prettifyError(parsed.error));
  const head = parsed.data;
  let signer: Uint8Array;
  try {
    signer = recoverK256(signedText(head), fromHex(head.signature));
  } catch (cause) {
    throw new AuditError('proof-invalid', 'The signature of the tree head names no key', { cause });
  }
  const accepted = publicKeys instanceof Uint8Array ? [publicKeys] : publicKeys;
  if (!accepted.some((publicKey) => equalBytes(signer, publicKey))) {
    throw new AuditError('proof-invalid', `The tree head is signed by ${toHex(signer)}, not the audit key`);
  }
  return head;
}
