import { concatBytes, equalBytes, fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { k256PublicKey, type RootKeys, recoverK256, signK256 } from '@dstack-cloud/keys';
import { AuditError } from './errors.ts';
import { auditKey } from './tree-head.ts';

/** The public keys of one root, as a hand-over names them; bytes. */
export type RootNames = {
  /** DER SubjectPublicKeyInfo of the root CA, 91 bytes. */
  readonly caPubkey: Uint8Array;
  /** Compressed k256 root key, 33 bytes. */
  readonly k256Pubkey: Uint8Array;
  /** Compressed audit key, 33 bytes. */
  readonly auditPubkey: Uint8Array;
};

/**
 * One root's word for the root that comes after it, and for the audit key that goes on with its log. It follows from
 * the two roots alone, so every replica that has both makes the same one.
 */
export type RootHandover = {
  readonly from: RootNames;
  readonly to: RootNames;
  /** 65 bytes, by the k256 root that hands over. */
  readonly signature: Uint8Array;
};

const PREFIX = utf8('dstack-kms-root-handover:');
/** More rotations than a KMS sees in its life. */
const MAX_HANDOVERS = 64;

/** The names of a root. @param caPubkey DER SubjectPublicKeyInfo */
export function rootNames(roots: RootKeys, caPubkey: Uint8Array): RootNames {
  return {
    caPubkey,
    k256Pubkey: k256PublicKey(roots.k256),
    auditPubkey: k256PublicKey(auditKey(roots.k256)),
  };
}

/** Has the old root name the new one. @param oldRoot k256 secret, 32 bytes */
export function signHandover(from: RootNames, to: RootNames, oldRoot: Uint8Array): RootHandover {
  return { from, to, signature: signK256(handoverText(from, to), oldRoot) };
}

/** All fields have fixed lengths, so nothing need be framed. */
function handoverText(from: RootNames, to: RootNames): Uint8Array {
  return concatBytes(PREFIX, ...[from, to].flatMap((names) => checked(names)));
}

function checked({ caPubkey, k256Pubkey, auditPubkey }: RootNames): Uint8Array[] {
  if (caPubkey.length !== 91 || k256Pubkey.length !== 33 || auditPubkey.length !== 33) {
    throw new AuditError('malformed', 'A hand-over names keys of wrong length');
  }
  return [caPubkey, k256Pubkey, auditPubkey];
}

/** @throws AuditError `malformed`, or `proof-invalid` when the root that hands over did not sign it */
export function verifyHandover({ from, to, signature }: RootHandover): void {
  const text = handoverText(from, to);
  let signer: Uint8Array;
  try {
    signer = recoverK256(text, signature);
  } catch (cause) {
    throw new AuditError('proof-invalid', 'The signature of a hand-over names no key', { cause });
  }
  if (!equalBytes(signer, from.k256Pubkey)) {
    throw new AuditError(
      'proof-invalid',
      `A hand-over of root ${toHex(from.k256Pubkey)} is signed by ${toHex(signer)}`,
    );
  }
}

/**
 * The hand-overs that lead from one root to another, each signed by the root before it; none when the two are the same.
 * @param trusted compressed k256 key, hex, that is believed
 * @param present compressed k256 key, hex, that is to be believed because of it
 * @throws AuditError `proof-invalid` when no unbroken, signed way leads there
 */
export function followHandovers(
  handovers: readonly RootHandover[],
  trusted: string,
  present: string,
): RootHandover[] {
  if (handovers.length > MAX_HANDOVERS) throw new AuditError('malformed', 'There are too many hand-overs');
  const way: RootHandover[] = [];
  for (let at = trusted; at !== present; ) {
    const next = handovers.find(({ from }) => equalBytes(from.k256Pubkey, fromHex(at)));
    if (next === undefined || way.includes(next)) {
      throw new AuditError('proof-invalid', `Nothing shows that root ${at} handed over to root ${present}`);
    }
    const before = way.at(-1)?.to;
    if (before !== undefined && !equalBytes(before.auditPubkey, next.from.auditPubkey)) {
      throw new AuditError('proof-invalid', `Root ${at} has two audit keys`);
    }
    verifyHandover(next);
    way.push(next);
    at = toHex(next.to.k256Pubkey);
  }
  return way;
}
