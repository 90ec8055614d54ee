import { bytesToHex } from 'viem';
import { type PrivateKeyAccount, privateKeyToAccount } from 'viem/accounts';
import { DstackError } from './errors.ts';
import type { GetKeyResponse, GetTlsKeyResponse } from './types.ts';

/**
 * The Ethereum account of a key.
 *
 * @throws DstackError `argument` for a TLS key, whose first bytes are the same for everybody
 */
export function toViemAccount(key: GetKeyResponse | GetTlsKeyResponse): PrivateKeyAccount {
  if (key.__name__ !== 'GetKeyResponse')
    throw new DstackError('argument', 'An account is made of getKey, not of getTlsKey');
  return privateKeyToAccount(bytesToHex(key.key));
}

/** The name that the original SDK has for it. */
export function toViemAccountSecure(key: GetKeyResponse | GetTlsKeyResponse): PrivateKeyAccount {
  return toViemAccount(key);
}
