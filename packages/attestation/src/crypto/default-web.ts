/** What `#crypto` means everywhere but in Node. */
export { webCrypto as defaultCrypto } from './web-crypto.ts';
