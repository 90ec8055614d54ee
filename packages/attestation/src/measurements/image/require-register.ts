import { equalBytes, toHex } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';

/** @param expected as the image gives it. @throws AttestationError `image` naming the register */
export function requireRegister(name: string, expected: Uint8Array, found: Uint8Array): void {
  if (equalBytes(expected, found)) return;
  throw new AttestationError(
    'image',
    `${name} mismatch: this is not the image which the configuration names`,
    {
      expected: toHex(expected),
      found: toHex(found),
    },
  );
}

/**
 * The same for a register of a TD, in the words that operators look for (chapter 10 section 5.4); expected and found
 * follow as data.
 */
export function requireTdRegister(name: string, expected: Uint8Array, found: Uint8Array): void {
  if (equalBytes(expected, found)) return;
  throw new AttestationError('image', `MRs do not match: ${name} mismatch`, {
    expected: toHex(expected),
    found: toHex(found),
  });
}
