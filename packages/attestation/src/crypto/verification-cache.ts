import { equalBytes, toHex } from '@dstack-cloud/encoding';
import { cachedPromise, LruCache } from '@dstack-cloud/runtime';
import type { CryptoBackend, SignatureScheme, VerifyKey } from './backend.ts';

/** Imported keys kept: attestation keys, PCK and CA keys of a few hundred machines. */
const MAX_KEYS = 1024;
/** Longer ones are refused or not kept. */
const MAX_SPKI = 2048;
/** Verified chains, collateral sets and QE reports kept. */
const MAX_RESULTS = 512;

/** Signed data that is longer is verified again each time: 512 copies of it stay below 8 MiB. */
const MAX_SIGNED = 16 * 1024;

/** A signature that verified, with copies of its key and data. */
interface Verified {
  readonly spki: Uint8Array;
  readonly data: Uint8Array;
}

const pinned = new WeakSet<Uint8Array>();
const pinnedKeys = new LruCache<string, Promise<VerifyKey>>(MAX_KEYS);

/** Marks the key of a trust root: it is imported once per process, whatever cache is used. */
export function pinKey(spki: Uint8Array): void {
  pinned.add(spki);
}

/**
 * What was verified before, by the SHA-256 of the bytes that were verified, so that it need not be verified
 * again. Only successes are kept; whoever reads one must still check its dates against the time at hand.
 */
export class VerificationCache {
  readonly #keys = new LruCache<string, Promise<VerifyKey>>(MAX_KEYS);
  /** By the parsed certificate's own bytes: no text is made of a key that was just used. */
  readonly #parsed = new WeakMap<Uint8Array, { crypto: CryptoBackend; key: Promise<VerifyKey> }>();
  readonly #results = new LruCache<string, Promise<unknown>>(MAX_RESULTS);
  readonly #signatures = new LruCache<string, Verified>(MAX_RESULTS);

  /** Imports a SubjectPublicKeyInfo, once. */
  key(crypto: CryptoBackend, spki: Uint8Array): Promise<VerifyKey> {
    const parsed = this.#parsed.get(spki);
    if (parsed?.crypto === crypto) return parsed.key;
    const key = this.#imported(crypto, spki);
    this.#parsed.set(spki, { crypto, key });
    return key;
  }

  #imported(crypto: CryptoBackend, spki: Uint8Array): Promise<VerifyKey> {
    if (spki.length > MAX_SPKI) return crypto.importKey(spki);
    // The key itself, not its hash: it is as short.
    const id = `${crypto.name}:${toHex(spki)}`;
    const keys = pinned.has(spki) ? pinnedKeys : this.#keys;
    return cachedPromise(keys, id, () => crypto.importKey(spki));
  }

  /**
   * Runs `make` once for the same `name` and bytes. Concurrent callers share one run; a failure is forgotten.
   * The parts are hashed with their lengths, so that no two lists of parts look alike.
   */
  once<T>(
    crypto: CryptoBackend,
    name: string,
    parts: readonly Uint8Array[],
    make: () => Promise<T>,
  ): Promise<T> {
    const id = this.#id(crypto, name, parts);
    return cachedPromise(this.#results as LruCache<string, Promise<T>>, id, make);
  }

  /**
   * Whether the key of `spki` made this signature. A true answer is remembered by the signature, and holds for the
   * same key and data only, byte for byte; a false one never is.
   */
  async verified(
    crypto: CryptoBackend,
    scheme: SignatureScheme,
    spki: Uint8Array,
    signature: Uint8Array,
    data: Uint8Array,
  ): Promise<boolean> {
    const id = `${scheme}:${toHex(signature)}`;
    const known = this.#signatures.get(id);
    if (known && equalBytes(known.spki, spki) && equalBytes(known.data, data)) return true;
    if (!(await crypto.verify(await this.key(crypto, spki), scheme, signature, data))) return false;
    // Copies: whoever changes a buffer afterwards must not change what is remembered.
    if (data.length <= MAX_SIGNED) this.#signatures.set(id, { spki: spki.slice(), data: data.slice() });
    return true;
  }

  #id(crypto: CryptoBackend, name: string, parts: readonly Uint8Array[]): string {
    const lengths = new Uint8Array(new Uint32Array(parts.map((part) => part.length)).buffer);
    return `${name}:${toHex(crypto.hash('sha256', lengths, ...parts))}`;
  }
}
