import { closeSync, readFileSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { openOwnFile, syncDirectory, temporaryName, writeSynced } from '@dstack-cloud/files';
import { isWireGuardKey, keyPairOf, newKeyPair, type WireGuardKeyPair } from '@dstack-cloud/wireguard';
import { GatewayError } from '../errors.ts';

const FILE = 'wg.key';

/**
 * The configured key, or that of the state folder, which is made at the first start: guests know the gateway by it.
 * @param folder ours, and locked
 * @throws GatewayError `config-invalid` for a configured key that is none, `wireguard` for a damaged file
 */
export async function interfaceKey(configured: string, folder: string): Promise<WireGuardKeyPair> {
  if (configured !== '') {
    if (!isWireGuardKey(configured))
      throw new GatewayError('config-invalid', 'core.wg.private_key is not base64 of 32 bytes');
    return keyPairOf(configured);
  }
  const path = join(folder, FILE);
  const kept = readKept(path);
  if (kept !== undefined) return keyPairOf(kept);
  const made = newKeyPair();
  // Whole or not at all: a kill in between leaves no half key.
  const temporary = join(folder, temporaryName(FILE));
  await writeSynced(temporary, made.privateKey, 0o600);
  await rename(temporary, path);
  await syncDirectory(folder);
  return made;
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
