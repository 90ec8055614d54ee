import { createDecipheriv, pbkdf2Sync, scryptSync, timingSafeEqual } from 'node:crypto';
import { bytesToHex, type Hex, hexToBytes, keccak256 } from 'viem';
import { ContractsError } from '../errors.ts';

/** Most memory that deriving a key may take: the file chooses the cost. geth's own setting needs 256 MiB. */
const MAX_MEMORY = 512 * 1024 * 1024;
/** Bytes that are mixed in all, which is the time: nothing ends a derivation that has begun. */
const MAX_WORK = 2 * MAX_MEMORY;
const MAX_ROUNDS = 10_000_000;

/**
 * Decrypt a key file of the Web3 Secret Storage format, version 3, as geth, foundry and others write it.
 * @throws ContractsError `no-key` for another format, costs out of bounds, or a wrong password
 */
export function decryptKeystore(text: string, password: string): Hex {
  const crypto = cryptoOf(text);
  const derived = deriveKey(crypto, password);
  const ciphertext = bytes(crypto['ciphertext'], 'ciphertext');
  const mac = hexToBytes(keccak256(new Uint8Array([...derived.subarray(16, 32), ...ciphertext])));
  const expected = bytes(crypto['mac'], 'mac');
  if (expected.length !== 32 || !timingSafeEqual(mac, expected)) throw refuse('the password is wrong');
  if (crypto['cipher'] !== 'aes-128-ctr') throw refuse('its cipher is not aes-128-ctr');
  const iv = bytes((crypto['cipherparams'] as Record<string, unknown> | undefined)?.['iv'], 'iv');
  if (iv.length !== 16 || ciphertext.length !== 32) throw refuse('iv or ciphertext has a wrong length');
  const decipher = createDecipheriv('aes-128-ctr', derived.subarray(0, 16), iv);
  return bytesToHex(new Uint8Array([...decipher.update(ciphertext), ...decipher.final()]));
}

function cryptoOf(text: string): Record<string, unknown> {
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    throw refuse('it is no JSON');
  }
  const { version, crypto, Crypto } = (file ?? {}) as Record<string, unknown>;
  const found = crypto ?? Crypto;
  if (version !== 3 || typeof found !== 'object' || found === null) throw refuse('its version is not 3');
  return found as Record<string, unknown>;
}

function deriveKey(crypto: Record<string, unknown>, password: string): Uint8Array {
  const params = (crypto['kdfparams'] ?? {}) as Record<string, unknown>;
  const salt = bytes(params['salt'], 'salt');
  if (params['dklen'] !== 32) throw refuse('dklen is not 32');
  if (crypto['kdf'] === 'scrypt') {
    const [n, r, p] = ['n', 'r', 'p'].map((name) => whole(params[name], name)) as [number, number, number];
    if (128 * n * r > MAX_MEMORY || 128 * n * r * p > MAX_WORK)
      throw refuse('its scrypt parameters are out of bounds');
    try {
      return scryptSync(password, salt, 32, { N: n, r, p, maxmem: MAX_MEMORY + 1024 * 1024 });
    } catch {
      // RFC 7914, section 2: N is a power of two below 2^(128 r / 8).
      throw refuse('its scrypt parameters are not those of a key file');
    }
  }
  const rounds = whole(params['c'], 'c');
  if (crypto['kdf'] !== 'pbkdf2' || params['prf'] !== 'hmac-sha256' || rounds > MAX_ROUNDS) {
    throw refuse('its key derivation is neither scrypt nor pbkdf2 with hmac-sha256');
  }
  return pbkdf2Sync(password, salt, rounds, 32, 'sha256');
}

function bytes(value: unknown, name: string): Uint8Array {
  if (typeof value === 'string' && /^([0-9a-fA-F]{2}){1,128}$/.test(value)) return hexToBytes(`0x${value}`);
  throw refuse(`${name} is no hex text`);
}

function whole(value: unknown, name: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0) return value;
  throw refuse(`${name} is no positive number`);
}

function refuse(why: string): ContractsError {
  return new ContractsError('no-key', `The key file cannot be used: ${why}`);
}
