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
