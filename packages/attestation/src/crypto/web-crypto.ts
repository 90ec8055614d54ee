import type { CryptoBackend } from './backend.ts';

/** WebCrypto and noble hashes: browsers, workers, and tests of both. */
export const webCrypto: CryptoBackend = undefined as unknown as CryptoBackend;

export const defaultCrypto: CryptoBackend = webCrypto;
