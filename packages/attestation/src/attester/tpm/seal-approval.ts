import { createHash, createPublicKey, verify } from 'node:crypto';
import { ByteWriter, concatBytes, fromHex, toHex, utf8, utf8Text } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import { approverHash } from './seal-request.ts';

const DIGEST_BYTES = 32;
const SIGNATURE_BYTES = 64;
const MAX_DOCUMENT = 1024;
const MAX_NUMBER = 0xffff_ffff;
/** Keeps these signatures apart from all others that the same key may make. */
const PURPOSE = utf8('dstack-seal-approval:');

/** The owner's word that another system may have the seed that is sealed in a TPM. */
export interface SealApproval {
  /** Digest of the PCR policy of that system, 32 bytes. */
  readonly policy: Uint8Array;
  /** Number of the seal that it allows: one more than the present one, so that each approval serves once. */
  readonly number: number;
  /** ECDSA P-256 with SHA-256 over `approvedBytes().message`: r, s, 32 bytes each. */
  readonly signature: Uint8Array;
}

/** What an approval signs, as TPM2_PolicyAuthorize has it: policy digest, then the reference of 32 bytes. */
export function approvedBytes({ policy, number }: Pick<SealApproval, 'policy' | 'number'>): {
  policy: Uint8Array;
  policyRef: Uint8Array;
  message: Uint8Array;
} {
  const policyRef = approvalReference(number);
  return { policy, policyRef, message: concatBytes(policy, policyRef) };
}

/** policyRef of the approval with this number. */
export function approvalReference(number: number): Uint8Array {
  const hash = createHash('sha256').update(PURPOSE).update(new ByteWriter().u32be(number).finish());
  return new Uint8Array(hash.digest());
}

/** Whether `approver` (P-256, SPKI DER) signed this. */
export function isApprovedBy(approver: Uint8Array, approval: SealApproval): boolean {
  const key = createPublicKey({ key: Buffer.from(approver), format: 'der', type: 'spki' });
  const { message } = approvedBytes(approval);
  return verify('sha256', message, { key, dsaEncoding: 'ieee-p1363' }, approval.signature);
}

/** Text of an approval: JSON, hex. */
export function serializeSealApproval({ policy, number, signature }: SealApproval): string {
  return `${JSON.stringify({ version: 1, policy: toHex(policy), number, signature: toHex(signature) }, null, 2)}\n`;
}

/** @throws AttestationError `malformed`, `too-large` */
export function parseSealApproval(bytes: Uint8Array): SealApproval {
  if (bytes.length > MAX_DOCUMENT)
    throw new AttestationError(
      'too-large',
      `A seal approval of ${bytes.length} bytes; at most ${MAX_DOCUMENT}`,
    );
  let document: unknown;
  try {
    document = JSON.parse(utf8Text(bytes));
  } catch (cause) {
    throw malformed('is not JSON', cause);
  }
  if (typeof document !== 'object' || document === null) throw malformed('is no object');
  const { version, policy, number, signature, ...others } = document as Record<string, unknown>;
  if (version !== 1) throw malformed('has another version than 1');
  if (Object.keys(others).length > 0) throw malformed(`has the unknown member ${Object.keys(others)[0]}`);
  if (typeof number !== 'number' || !Number.isInteger(number) || number < 1 || number > MAX_NUMBER)
    throw malformed('has no number from 1 to 2^32-1');
  return {
    policy: hexOf('policy', policy, DIGEST_BYTES),
    number,
    signature: hexOf('signature', signature, SIGNATURE_BYTES),
  };
}

/**
 * Reads an approval that a host is about to hand to its machine, and refuses one that the guest would: the seal and the
 * application name the same key.
 *
 * @param approver SPKI DER of the key that the application names; empty for none
 * @throws AttestationError `malformed`, `too-large`, `mismatch`
 */
export function requireSealApproval(bytes: Uint8Array, approver: Uint8Array): SealApproval {
  const approval = parseSealApproval(bytes);
  if (approver.length === 0)
    throw new AttestationError('mismatch', 'The application names no key that could approve another system', {
      check: 'tpm.seal',
      expected: 'seal_approval_key in app-compose.json',
      found: 'none',
    });
  if (isApprovedBy(approver, approval)) return approval;
  throw new AttestationError(
    'mismatch',
    'The seal approval is not signed by the key that the application names',
    { check: 'tpm.seal', expected: `key ${toHex(approverHash(approver))}`, found: 'another signature' },
  );
}

function hexOf(name: string, value: unknown, bytes: number): Uint8Array {
  if (typeof value !== 'string' || value.length !== 2 * bytes || !/^[0-9a-f]*$/.test(value))
    throw malformed(`needs ${bytes} bytes of lower-case hex as ${name}`);
  return fromHex(value);
}

function malformed(what: string, cause?: unknown): AttestationError {
  return new AttestationError('malformed', `The seal approval ${what}`, { check: 'tpm.seal', cause });
}
