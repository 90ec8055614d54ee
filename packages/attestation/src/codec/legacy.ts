import type { Attestation } from '../attestation.ts';
import { AttestationError } from '../errors.ts';

/** A dstack-tdx attestation from a bare quote and its event log JSON (chapter 20 section 1.5). */
export function attestationFromQuote(_quote: Uint8Array, _eventLog: string, _config?: string): Attestation {
  throw new AttestationError('unsupported', 'not available');
}
