import { toHex, utf8 } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';

/**
 * An address in the mixed case of EIP-55, as clients show and compare it.
 * @param address 0x hex of 20 bytes, in any case
 */
export function checksumAddress(address: string): string {
  const digits = address.slice(2).toLowerCase();
  const hash = toHex(keccak256(utf8(digits)));
  const inCase = [...digits].map((digit, index) =>
    Number.parseInt(hash[index] ?? '0', 16) >= 8 ? digit.toUpperCase() : digit,
  );
  return `0x${inCase.join('')}`;
}
