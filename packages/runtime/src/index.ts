export { BoundedMap } from './bounded-map.ts';
export { cachedPromise } from './cached-promise.ts';
export { collectBytes } from './collect-bytes.ts';
export { errorChain } from './error-chain.ts';
export { InFlight } from './in-flight.ts';
export { LruCache } from './lru-cache.ts';
export { sharedFor } from './shared-for.ts';
export { withTimeout } from './with-timeout.ts';
