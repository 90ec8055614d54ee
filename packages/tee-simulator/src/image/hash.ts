import { createHash } from 'node:crypto';

export function sha256(...parts: (Uint8Array | string)[]): Uint8Array {
  return digest('sha256', parts);
}

export function sha384(...parts: (Uint8Array | string)[]): Uint8Array {
  return digest('sha384', parts);
}

/** A register after these extensions: R = SHA384(R ‖ digest) from zero. */
export function replay(digests: readonly Uint8Array[]): Uint8Array {
  return digests.reduce((register, next) => sha384(register, next), new Uint8Array(48));
}

/** The same for a TPM's SHA-256 bank. */
export function replaySha256(digests: readonly Uint8Array[]): Uint8Array {
  return digests.reduce((register, next) => sha256(register, next), new Uint8Array(32));
}

function digest(algorithm: string, parts: readonly (Uint8Array | string)[]): Uint8Array {
  const hash = createHash(algorithm);
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}
