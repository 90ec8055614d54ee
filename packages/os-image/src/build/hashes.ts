import { createHash } from 'node:crypto';

/** Hashes in the form that the measurement code takes. */
export const hashes = {
  hash: (algorithm: string, ...parts: Uint8Array[]): Uint8Array => {
    const hash = createHash(algorithm);
    for (const part of parts) hash.update(part);
    return new Uint8Array(hash.digest());
  },
};
