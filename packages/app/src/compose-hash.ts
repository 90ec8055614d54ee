import { createHash } from 'node:crypto';
import { utf8 } from '@dstack-cloud/encoding';
import type { AppId, ComposeHash, InstanceId } from './ids.ts';

const sha256 = (...parts: Uint8Array[]): Uint8Array => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
};

/** SHA-256 of the exact bytes of app-compose.json; nothing is normalised. */
export function composeHash(bytes: Uint8Array): ComposeHash {
  return sha256(bytes) as ComposeHash;
}

/** The app id when none is configured: the first 20 bytes of the compose hash. */
export function defaultAppId(hash: ComposeHash): AppId {
  return hash.slice(0, 20) as AppId;
}

/**
 * First 20 bytes of SHA-256(seed || app id).
 *
 * @param seed instance_id_seed, 20 bytes
 */
export function instanceId(seed: Uint8Array, appId: AppId): InstanceId {
  return sha256(seed, appId).slice(0, 20) as InstanceId;
}

/**
 * Deterministic JSON of the SDKs' `getComposeHash`, by the rules of its JavaScript form: keys sorted by
 * UTF-16 code units at every level, compact, NaN and infinities null, `undefined` members dropped. Integer-like keys
 * come first in numerical order, as in every JavaScript object.
 */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(sortKeys(value));
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (value === null || typeof value !== 'object') return value;
  const source = value as Record<string, unknown>;
  const keys = Object.keys(source).sort();
  // Object.fromEntries defines members, so that one named __proto__ stays a member.
  return Object.fromEntries(keys.map((key) => [key, sortKeys(source[key])]));
}

/**
 * Compose hash of an object, lowercase hex, as the npm SDK computes it.
 *
 * @param options.normalize drop what the runner does not use (section 2.3 rule 1); default false
 */
export function getComposeHash(
  compose: Readonly<Record<string, unknown>>,
  options: { readonly normalize?: boolean } = {},
): string {
  const value = options.normalize ? normalize(compose) : compose;
  return createHash('sha256')
    .update(utf8(canonicalJson(value)))
    .digest('hex');
}

function normalize(compose: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const result = { ...compose };
  if (result['runner'] === 'bash') delete result['docker_compose_file'];
  else if (result['runner'] === 'docker-compose' || result['runner'] === 'nerdctl-compose') {
    delete result['bash_script'];
  }
  if (!result['pre_launch_script']) delete result['pre_launch_script'];
  return result;
}
