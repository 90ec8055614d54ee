/** What `#crypto` means in Node (package.json `imports`). */
export { nodeCrypto as defaultCrypto } from './node-crypto.ts';
