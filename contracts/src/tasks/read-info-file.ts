import { readFile } from 'node:fs/promises';
import type { Hex } from 'viem';
import { ContractsError } from '../errors.ts';
import type { KmsInfo } from '../manage.ts';
import { shown } from './hex-values.ts';

const PARTS = ['k256Pubkey', 'caPubkey', 'quote', 'eventlog'] as const;
/** More than a block has room for. */
const MAX_BYTES = 4 * 1024 * 1024;

/** The identity of a KMS in a JSON file, hex with or without 0x. @throws ContractsError `bad-argument` */
export async function readInfoFile(path: string): Promise<KmsInfo> {
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new ContractsError('bad-argument', `${path} cannot be read`, { cause });
  });
  if (text.length > MAX_BYTES) throw new ContractsError('bad-argument', `${path} is too large`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new ContractsError('bad-argument', `${path} is no JSON`, { cause });
  }
  const found = (json ?? {}) as Record<string, unknown>;
  const part = (name: (typeof PARTS)[number]): Hex => {
    const value = found[name];
    if (typeof value === 'string' && /^(0x)?([0-9a-fA-F]{2})*$/.test(value)) {
      return value.startsWith('0x') ? (value as Hex) : `0x${value}`;
    }
    throw new ContractsError('bad-argument', `${name} of ${path} must be hex, found ${shown(String(value))}`);
  };
  const info = Object.fromEntries(PARTS.map((name) => [name, part(name)])) as KmsInfo;
  if (!/^0x0[23][0-9a-fA-F]{64}$/.test(info.k256Pubkey)) {
    throw new ContractsError(
      'bad-argument',
      `k256Pubkey of ${path} must be a compressed secp256k1 key of 33 bytes, found ${info.k256Pubkey.length / 2 - 1} bytes`,
    );
  }
  return info;
}
