import { fromBase64, toBase64 } from '@dstack-cloud/encoding';
import { type P256Key, p256KeyFromScalar } from '@dstack-cloud/keys';
import type { KmsKeys } from '../key-directory/kms-keys.ts';

/** Bytes and keys have no form in JSON of their own; each stands as an object with one of these names. */
const BYTES = '$bytes';
const P256 = '$p256';

/**
 * Keys as text, for the channel between the processes of one KMS: a worker gets what the primary loaded, whatever has
 * happened to the files since. Private keys are in it.
 */
export function writeKeys(keys: KmsKeys): string {
  return JSON.stringify(encode(keys));
}

/** What `writeKeys` wrote. */
export function readKeys(text: string): KmsKeys {
  return decode(JSON.parse(text)) as KmsKeys;
}

function encode(value: unknown): unknown {
  if (value instanceof Uint8Array) return { [BYTES]: toBase64(value) };
  if (Array.isArray(value)) return value.map(encode);
  if (typeof value !== 'object' || value === null) return value;
  if (isP256Key(value)) return { [P256]: toBase64(value.scalar) };
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, encode(member)]));
}

function decode(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(decode);
  if (typeof value !== 'object' || value === null) return value;
  const { [BYTES]: bytes, [P256]: scalar } = value as Record<string, unknown>;
  if (typeof bytes === 'string') return fromBase64(bytes);
  if (typeof scalar === 'string') return p256KeyFromScalar(fromBase64(scalar));
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, decode(member)]));
}

function isP256Key(value: object): value is P256Key {
  return 'scalar' in value && 'publicPoint' in value;
}
