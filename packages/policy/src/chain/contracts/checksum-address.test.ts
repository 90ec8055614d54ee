import fc from 'fast-check';
import { bytesToHex, getAddress } from 'viem';
import { expect, test } from 'vitest';
import { checksumAddress } from './checksum-address.ts';

test.each([
  '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed',
  '0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359',
  '0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB',
  '0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb',
])('vector of EIP-55: %s', (address) => {
  expect(checksumAddress(address.toLowerCase())).toBe(address);
  expect(checksumAddress(`0x${address.slice(2).toUpperCase()}`)).toBe(address);
});

test('is what viem makes of any address', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 20, maxLength: 20 }), (bytes) => {
      expect(checksumAddress(bytesToHex(bytes))).toBe(getAddress(bytesToHex(bytes)));
    }),
  );
});
