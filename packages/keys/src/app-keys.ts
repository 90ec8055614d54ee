import { ByteWriter, concatBytes, toHex, utf8 } from '@dstack-cloud/encoding';
import { BoundedMap } from '@dstack-cloud/runtime';
import { deriveDhSecret, deriveP256Key } from './derive.ts';
import { expectLength, KeysError } from './errors.ts';
import { hkdf } from './hkdf.ts';
import { k256PublicKey, signK256 } from './k256.ts';
import type { P256Key } from './p256-key.ts';
import { x25519PublicKey } from './x25519.ts';

/** Entries of each cache; the oldest is forgotten and derived again when it is asked for. */
const MAX_CACHED = 4096;
const ISSUED_PREFIX = utf8('dstack-kms-issued:');

/** The two roots of a KMS (docs/protocol/keys.md section 1). */
export interface RootKeys {
  /** Scalar of the root CA key, P-256, 32 bytes. */
  readonly caScalar: Uint8Array;
  /** secp256k1 root secret, 32 bytes. */
  readonly k256: Uint8Array;
}

/** What a KMS releases to one workload (docs/protocol/keys.md section 3.1). */
export interface AppKeys {
  /** 32 bytes. */
  readonly diskCryptKey: Uint8Array;
  /** X25519 secret, not clamped, 32 bytes. */
  readonly envCryptKey: Uint8Array;
  /** secp256k1 secret, 32 bytes. */
  readonly k256Key: Uint8Array;
  /** Signature by the KMS root over the public part of `k256Key`, 65 bytes. */
  readonly k256Signature: Uint8Array;
}

/** What depends on the application alone. */
type AppSecrets = Omit<AppKeys, 'diskCryptKey'>;

/** All of it follows from the roots, so it is computed once for each application, and each instance's disk. */
interface RootCache {
  readonly secrets: Map<string, AppSecrets>;
  readonly diskKeys: Map<string, Uint8Array>;
  readonly envPublicKeys: Map<string, Uint8Array>;
  readonly caKeys: Map<string, P256Key>;
}

// Hangs on the roots object itself, so that it lives and dies with the root keys.
const caches = new WeakMap<RootKeys, RootCache>();

/**
 * The keys of one application instance.
 * @param appId 20 bytes; contexts are not framed, so another length would be ambiguous
 * @param instanceId 20 bytes, or none when all instances share the disk key
 * @param epoch key epoch of the application, u32; 0 is what every release so far derives
 * @throws KeysError for other lengths
 */
export function deriveAppKeys(
  roots: RootKeys,
  appId: Uint8Array,
  instanceId: Uint8Array,
  epoch = 0,
): AppKeys {
  expectLength('instance_id', instanceId, 0, 20);
  const secrets = appSecrets(roots, appId, epoch);
  const name = `${nameOf(appId, epoch)}/${toHex(instanceId)}`;
  const diskCryptKey = cached(cacheOf(roots).diskKeys, name, () =>
    deriveDhSecret(roots.caScalar, [appId, instanceId, 'app-disk-crypt-key', ...epochContext(epoch)]),
  );
  return {
    diskCryptKey: diskCryptKey.slice(),
    envCryptKey: secrets.envCryptKey.slice(),
    k256Key: secrets.k256Key.slice(),
    k256Signature: secrets.k256Signature.slice(),
  };
}

/** The X25519 public key (32 bytes) to which an application's environment is sealed. */
export function deriveEnvPublicKey(roots: RootKeys, appId: Uint8Array, epoch = 0): Uint8Array {
  const { envCryptKey } = appSecrets(roots, appId, epoch);
  const name = nameOf(appId, epoch);
  return cached(cacheOf(roots).envPublicKeys, name, () => x25519PublicKey(envCryptKey)).slice();
}

/** The key of the application's certificate authority. */
export function deriveAppCaKey(roots: RootKeys, appId: Uint8Array, epoch = 0): P256Key {
  expectLength('app_id', appId, 20);
  return cached(cacheOf(roots).caKeys, nameOf(appId, epoch), () =>
    deriveP256Key(roots.caScalar, [appId, 'app-ca', ...epochContext(epoch)]),
  );
}

/**
 * What comes after the label for an epoch above 0: `epoch:` and the number, u32 BE (docs/protocol/keys.md section 4.1).
 */
function epochContext(epoch: number): Uint8Array[] {
  if (!Number.isInteger(epoch) || epoch < 0 || epoch > 0xffff_ffff) {
    throw new KeysError('invalid-length', `Key epoch ${epoch} is no 32-bit number`);
  }
  if (epoch === 0) return [];
  return [new ByteWriter().bytes(utf8('epoch:')).u32be(epoch).finish()];
}

/** What the KMS root signs to vouch for an application's k256 key (docs/protocol/keys.md section 5.1). */
export function issuedKeyMessage(appId: Uint8Array, k256Public: Uint8Array): Uint8Array {
  return concatBytes(ISSUED_PREFIX, appId, k256Public);
}

function appSecrets(roots: RootKeys, appId: Uint8Array, epoch: number): AppSecrets {
  expectLength('app_id', appId, 20);
  return cached(cacheOf(roots).secrets, nameOf(appId, epoch), () => {
    const suffix = epochContext(epoch);
    const envCryptKey = deriveDhSecret(roots.caScalar, [appId, 'env-encrypt-key', ...suffix]);
    const k256Key = hkdf(roots.k256, [appId, 'app-key', ...suffix], 32);
    return {
      envCryptKey,
      k256Key,
      k256Signature: signK256(issuedKeyMessage(appId, k256PublicKey(k256Key)), roots.k256),
    };
  });
}

function cacheOf(roots: RootKeys): RootCache {
  let cache = caches.get(roots);
  if (!cache) {
    cache = {
      secrets: new BoundedMap(MAX_CACHED),
      diskKeys: new BoundedMap(MAX_CACHED),
      envPublicKeys: new BoundedMap(MAX_CACHED),
      caKeys: new BoundedMap(MAX_CACHED),
    };
    caches.set(roots, cache);
  }
  return cache;
}

function nameOf(appId: Uint8Array, epoch: number): string {
  return epoch === 0 ? toHex(appId) : `${toHex(appId)}/${epoch}`;
}

function cached<T>(map: Map<string, T>, name: string, make: () => T): T {
  const found = map.get(name);
  if (found !== undefined) return found;
  const made = make();
  map.set(name, made);
  return made;
}
