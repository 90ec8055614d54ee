/** The authorisation webhook of the KMS as a library: settings, policy, server. */
export { parseBootRequest } from './boot-request.ts';
export { AuthApiError, type AuthApiErrorCode } from './errors.ts';
export { createHandler, type Services } from './handler.ts';
export { createMetrics, type Metrics } from './metrics.ts';
export { QUESTION_LIMITS } from './question-limits.ts';
export { CONNECTIONS, type RunningServer, startServer } from './server.ts';
export { type AllowListSource, type ChainSource, type Settings, settingsFrom } from './settings.ts';
export { type PolicySource, startPolicySource } from './start-policy-source.ts';
