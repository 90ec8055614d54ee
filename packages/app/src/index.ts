export { AGENT_SOCKETS } from './agent-sockets.ts';
export {
  type AppCompose,
  assertKnown,
  assertSupported,
  MAX_MANIFEST_VERSION,
  parseAppCompose,
  parsePortPolicy,
} from './app-compose.ts';
export { APP_COMPOSE_MEMBERS } from './app-compose-schema.ts';
export { type AppKeysFile, type AppKeysProvider, parseAppKeys, serializeAppKeys } from './app-keys-file.ts';
export { hostSharedCopies, removeBootSecrets } from './boot-secrets.ts';
export { checkRequirements, launchTokenHash, type MachineFacts } from './check-requirements.ts';
export { canonicalJson, composeHash, defaultAppId, getComposeHash, instanceId } from './compose-hash.ts';
export {
  type ContainerEngine,
  chooseEngine,
  type EngineName,
  engineProbe,
  engineVariables,
  type Probe,
} from './container-engine.ts';
export {
  ENV_LIMITS,
  type EnvVar,
  escapeEnvValue,
  formatDotEnvValue,
  formatEnvFile,
  isEnvName,
  parseEnvDocument,
  type ValidatedEnv,
  validateEnv,
} from './env.ts';
export { AppError, type AppErrorCode, type AppErrorDetails } from './errors.ts';
export { GUEST_FILES, HOST_SHARED_LIMITS, HOST_SHARED_REQUIRED, type HostSharedName } from './host-shared.ts';
export {
  type AppId,
  asAppId,
  asComposeHash,
  asDeviceId,
  asInstanceId,
  asOsImageHash,
  type Branded,
  type ComposeHash,
  type DeviceId,
  type InstanceId,
  type OsImageHash,
} from './ids.ts';
export { type InstanceInfo, parseInstanceInfo, serializeInstanceInfo } from './instance-info.ts';
export { type InterpolationScope, interpolate } from './interpolate.ts';
export { KEY_PROVIDER_NAME, type KeyProviderKind, keyProviderInfo } from './key-provider.ts';
export { knownKeys } from './known-keys.ts';
export {
  checkMrConfigId,
  MR_CONFIG_ID_LENGTH,
  type MrConfigClaims,
  mrConfigIdV1,
  mrConfigIdV2,
} from './mr-config-id.ts';
export { type ReadFileOptions, readFileBounded } from './read-file-bounded.ts';
export { JsonFloat, parseStrictJson, type StrictJson } from './strict-json.ts';
export { parseSysConfig, type SysConfig, serializeSysConfig } from './sys-config.ts';
export { table } from './table.ts';
export {
  DEFAULT_FILE_SYSTEM,
  DIRECTORY_MACHINE,
  DISK_MACHINE,
  type MachineAbilities,
} from './unsupported-members.ts';
export { parseVmConfig, type VmConfig } from './vm-config.ts';
export { type AppComposeFields, universalNewlines, writeAppCompose } from './write-app-compose.ts';
export { type AtomicFileSystem, type WriteFileOptions, writeFileAtomic } from './write-file-atomic.ts';
