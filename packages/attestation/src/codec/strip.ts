import type { Attestation, TdxEvent } from '../attestation.ts';
import { AttestationError } from '../errors.ts';

/** Reduces one event as chapter 20 section 1.5 says. */
export function stripEvent(_event: TdxEvent): TdxEvent {
  throw new AttestationError('unsupported', 'not available');
}

/** The form that goes into a certificate: of the TDX log only imr 3 and the ACPI events. */
export function stripForCertificate(_attestation: Attestation): Attestation {
  throw new AttestationError('unsupported', 'not available');
}
