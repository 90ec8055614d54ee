import { randomBytes } from 'node:crypto';
import { closeSync, readFileSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { openOwnFile, syncDirectory, temporaryName, writeSynced } from '@dstack-cloud/files';
import { x25519PublicKey } from '@dstack-cloud/keys';
import { GatewayError } from '../errors.ts';
import { isWireGuardKey } from './wireguard-key.ts';

const FILE = 'wg.key';

/** The key of the interface, both halves base64. */
export type InterfaceKey = { readonly privateKey: string; readonly publicKey: string };

/**
 * The configured key, or that of the state folder, which is made at the first start: guests know the gateway by it.
 * @param folder ours, and locked
 * @throws GatewayError `config-invalid` for a configured key that is none, `wireguard` for a damaged file
 */
export async function interfaceKey(configured: string, folder: string): Promise<InterfaceKey> {
  if (configured !== '') {
    if (!isWireGuardKey(configured))
      throw new GatewayError('config-invalid', 'core.wg.private_key is not base64 of 32 bytes');
    return withPublic(configured);
  }
  const path = join(folder, FILE);
  const kept = readKept(path);
  if (kept !== undefined) return withPublic(kept);
  const made = randomBytes(32).toString('base64');
  // Whole or not at all: a kill in between leaves no half key.
  const temporary = join(folder, temporaryName(FILE));
  await writeSynced(temporary, made, 0o600);
  await rename(temporary, path);
  await syncDirectory(folder);
  return withPublic(made);
}

function readKept(path: string): string | undefined {
  let file: number;
  try {
    file = openOwnFile(path, 'read');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const text = readFileSync(file, 'utf8').trim();
    if (isWireGuardKey(text)) return text;
    throw new GatewayError(
      'wireguard',
      `${path} holds no key; restore it, or remove it to begin with a new one`,
    );
  } finally {
    closeSync(file);
  }
}

function withPublic(privateKey: string): InterfaceKey {
  const publicKey = x25519PublicKey(new Uint8Array(Buffer.from(privateKey, 'base64')));
  return { privateKey, publicKey: Buffer.from(publicKey).toString('base64') };
}
