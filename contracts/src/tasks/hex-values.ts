import { type Address, getAddress, type Hex } from 'viem';
import { ContractsError } from '../errors.ts';

/** Values that stand for missing or unprotected evidence. Allowing them allows anybody. */
const UNPROTECTED: Readonly<Record<string, string>> = {
  '0000000000000000000000000000000000000000000000000000000000000000': 'is zero, as missing data is',
  e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855:
    'is SHA-256 of nothing: the device id of evidence without a device',
  '81c611f35bff79491538b2f7cf201c7597a661a5c549633541c62bdc8af1613f':
    'is that of an enclave in debug mode, whose registers are zero',
};

/** 32 bytes with or without 0x. */
export function listedHashValue(name: string, text: string): Hex {
  const digits = text.replace(/^0x/i, '').toLowerCase();
  if (!/^[0-9a-f]{64}$/.test(digits)) {
    throw new ContractsError('bad-argument', `${name} must have 64 hex digits, found ${shown(text)}`);
  }
  return `0x${digits}`;
}

/** 32 bytes with or without 0x; refuses what stands for nothing. */
export function hashValue(name: string, text: string, allowDebug: boolean): Hex {
  const value = listedHashValue(name, text);
  const digits = value.slice(2);
  const why = UNPROTECTED[digits];
  if (why !== undefined && !(allowDebug && !/^0+$/.test(digits))) {
    throw new ContractsError(
      'bad-argument',
      `${name} ${why}. ${/^0+$/.test(digits) ? 'The contracts refuse it.' : 'Pass --allow-debug for a test system.'}`,
    );
  }
  return value;
}

/** An address with or without 0x; mixed letters must be its checksum (ERC-55). */
export function addressValue(name: string, text: string): Address {
  const digits = text.replace(/^0x/i, '');
  if (!/^[0-9a-fA-F]{40}$/.test(digits)) {
    throw new ContractsError(
      'bad-argument',
      `${name} must be an address of 40 hex digits, found ${shown(text)}`,
    );
  }
  const address = getAddress(`0x${digits.toLowerCase()}`);
  const isMixed = /[a-f]/.test(digits) && /[A-F]/.test(digits);
  if (isMixed && address.slice(2) !== digits) {
    throw new ContractsError(
      'bad-argument',
      `${name} ${shown(text)} has a wrong checksum: a letter may be mistyped. All lower case takes it as it is.`,
    );
  }
  return address;
}

/** What was typed, cut. */
export function shown(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
