import { equalBytes, toHex } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';

/**
 * In the words that operators look for (docs/protocol/kms.md section 5.2); expected and found follow as data.
 * @param expected as the image, or the configuration that names it, gives it
 * @param found as it was measured
 * @throws AttestationError `image` naming the register
 */
export function requireRegister(name: string, expected: Uint8Array, found: Uint8Array): void {
  if (equalBytes(expected, found)) return;
  throw new AttestationError('image', `${name} mismatch`, { expected: toHex(expected), found: toHex(found) });
}

/** The same for a register of a TD. */
export function requireTdRegister(name: string, expected: Uint8Array, found: Uint8Array): void {
  requireRegister(`MRs do not match: ${name}`, expected, found);
}
