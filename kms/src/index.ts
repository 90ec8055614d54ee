/** The KMS as a library, for tests that start one in their own process. */

export type { KmsConfig } from './config/kms-config.ts';
export { loadConfig } from './config/load-config.ts';
export { defaultLimits } from './default-limits.ts';
export { KmsError, type KmsErrorCode } from './errors.ts';
export { type RunningKms, type StartOptions, startKms } from './start-kms.ts';
export { createLog } from './telemetry/log.ts';
