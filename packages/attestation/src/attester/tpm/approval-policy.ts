import { createHash } from 'node:crypto';
import { ByteWriter, concatBytes, equalBytes } from '@dstack-cloud/encoding';
import { p256Spki } from '../../crypto/key-kind.ts';
import { AttestationError } from '../../errors.ts';
import { approvedBytes, type SealApproval } from './seal-approval.ts';
import type { Tpm } from './tpm.ts';
import { ALG, COMMAND, CURVE_P256, HANDLE } from './tpm-constants.ts';
import { take2b, tpm2b } from './tpm-structures.ts';

const COORDINATE = 32;
/** TPMA_OBJECT: userWithAuth, sign. */
const VERIFY_ATTRIBUTES = 0x00040040;

/** The public area under which a TPM knows the key that approves systems (TPM 2.0 Part 2 section 12.2.4). */
function approverArea(spki: Uint8Array): Uint8Array {
  const point = spki.subarray(-2 * COORDINATE);
  if (!equalBytes(spki, p256Spki(point))) {
    throw new AttestationError('malformed', 'The key that approves systems is no P-256 key in SPKI DER', {
      found: `${spki.length} bytes`,
    });
  }
  return new ByteWriter()
    .u16be(ALG.ecc)
    .u16be(ALG.sha256)
    .u32be(VERIFY_ATTRIBUTES)
    .u16be(0) // no policy
    .u16be(ALG.null) // no symmetric algorithm
    .u16be(ALG.ecdsa)
    .u16be(ALG.sha256)
    .u16be(CURVE_P256)
    .u16be(ALG.null) // no KDF
    .bytes(tpm2b(point.subarray(0, COORDINATE)))
    .bytes(tpm2b(point.subarray(COORDINATE)))
    .finish();
}

/**
 * The digest of a policy that takes any system which `approver` has approved under this number: PolicyAuthorize (Part 3
 * section 23.16).
 */
export function approvalPolicyDigest(approver: Uint8Array, policyRef: Uint8Array): Uint8Array {
  const area = approverArea(approver);
  const name = concatBytes(new ByteWriter().u16be(ALG.sha256).finish(), sha256(area));
  const code = new ByteWriter().u32be(COMMAND.policyAuthorize).finish();
  return sha256(sha256(new Uint8Array(32), code, name), policyRef);
}

/** The digest of a policy that is met by any one of these (Part 3 section 23.6). */
export function policyOrDigest(branches: readonly Uint8Array[]): Uint8Array {
  const code = new ByteWriter().u32be(COMMAND.policyOr).finish();
  return sha256(new Uint8Array(32), code, ...branches);
}

/** Leaves a session that has met one of these branches with the policy that names them all. */
export async function policyOr(tpm: Tpm, session: number, branches: readonly Uint8Array[]): Promise<void> {
  await tpm.execute({
    code: 'policyOr',
    handles: [session],
    parameters: concatBytes(new ByteWriter().u32be(branches.length).finish(), ...branches.map(tpm2b)),
  });
}

/** Has the TPM check an approval and take the session's policy for the one that `approver` may replace. */
export async function policyAuthorize(
  tpm: Tpm,
  session: number,
  approver: Uint8Array,
  approval: SealApproval,
): Promise<void> {
  const { policy, policyRef, message } = approvedBytes(approval);
  const key = await loadApprover(tpm, approver);
  try {
    const { parameters } = await tpm.execute({
      code: 'verifySignature',
      handles: [key.handle],
      parameters: new ByteWriter()
        .bytes(tpm2b(sha256(message)))
        .u16be(ALG.ecdsa)
        .u16be(ALG.sha256)
        .bytes(tpm2b(approval.signature.subarray(0, COORDINATE)))
        .bytes(tpm2b(approval.signature.subarray(COORDINATE)))
        .finish(),
    });
    // TPMT_TK_VERIFIED, handed on as it came: the TPM knows its own tickets.
    const ticket = parameters.rest();
    await tpm.execute({
      code: 'policyAuthorize',
      handles: [session],
      parameters: concatBytes(tpm2b(policy), tpm2b(policyRef), tpm2b(key.name), ticket),
    });
  } finally {
    await tpm.flush(key.handle);
  }
}

async function loadApprover(tpm: Tpm, approver: Uint8Array): Promise<{ handle: number; name: Uint8Array }> {
  const { handle, parameters } = await tpm.execute({
    code: 'loadExternal',
    // No private part; of the owner's hierarchy, without which tickets say nothing.
    parameters: new ByteWriter()
      .u16be(0)
      .bytes(tpm2b(approverArea(approver)))
      .u32be(HANDLE.owner)
      .finish(),
    returnsHandle: true,
  });
  tpm.track(handle);
  const name = take2b(parameters).slice();
  parameters.finish();
  return { handle, name };
}

function sha256(...parts: Uint8Array[]): Uint8Array {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}
