/** Follows the contracts of a KMS domain: events without gaps or repetitions, governance state, alerts. */
export { type Alert, SEVERITIES, type Severity } from './alerts/alert.ts';
export { callInWords } from './alerts/proposal.ts';
export { loadConfig } from './config/load-config.ts';
export { configSchema, type WatchConfig } from './config/schema.ts';
export { WatcherError, type WatcherErrorCode } from './errors.ts';
export type { Allowance } from './model/model.ts';
export { type ObserveOptions, type Observer, type ObserverStatus, observe } from './observe.ts';
export { type Listener, type ListenOptions, listen } from './serve/listen.ts';
export type { Message } from './sinks/deliver.ts';
export { type WatcherNote, type WatchOptions, type WatchResult, watchGovernance } from './watch.ts';
