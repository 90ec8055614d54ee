import type { CryptoBackend } from './backend.ts';

/** node:crypto behind the promise API of `CryptoBackend`. The only file of this package's core with a node: import. */
export const nodeCrypto: CryptoBackend = undefined as unknown as CryptoBackend;

export const defaultCrypto: CryptoBackend = nodeCrypto;
