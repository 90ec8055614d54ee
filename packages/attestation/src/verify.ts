import type { Attestation } from './attestation.ts';
import type { Check } from './check-recorder.ts';
import { AttestationError } from './errors.ts';
import type { VerifiedAttestation, VerifyOptions } from './verify-context.ts';

/** Result of `inspectAttestation`. */
export type Inspection =
  | { readonly ok: true; readonly verified: VerifiedAttestation; readonly checks: readonly Check[] }
  | { readonly ok: false; readonly error: AttestationError; readonly checks: readonly Check[] };

/**
 * Judges evidence: genuine, bound, consistent. Policy (TCB status, identities) is not asked.
 * @throws AttestationError naming the check that failed
 */
export async function verifyAttestation(
  attestation: Attestation,
  options: VerifyOptions,
): Promise<VerifiedAttestation> {
  const inspection = await inspectAttestation(attestation, options);
  if (inspection.ok) return inspection.verified;
  throw inspection.error;
}

/** As `verifyAttestation`, but a refusal is a value with the checks made so far, the failing one last. */
export async function inspectAttestation(
  _attestation: Attestation,
  _options: VerifyOptions,
): Promise<Inspection> {
  throw new AttestationError('unsupported', 'not available');
}
