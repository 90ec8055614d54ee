import { defaultCrypto } from '#crypto';

const SIZES = { sha384: 48, sha256: 32 } as const;

/** R = H(R ‖ digest) over a list of digests, from `initial` (default zeros). */
export function replayDigests(
  digests: readonly Uint8Array[],
  algorithm: 'sha384' | 'sha256',
  initial: Uint8Array = new Uint8Array(SIZES[algorithm]),
): Uint8Array {
  let register = initial;
  for (const digest of digests) register = defaultCrypto.hash(algorithm, register, digest);
  return register;
}
