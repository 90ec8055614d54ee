import { randomBytes } from 'node:crypto';
import {
  type AppCompose,
  type AppId,
  type ComposeHash,
  defaultAppId,
  type InstanceId,
  type InstanceInfo,
  instanceId,
} from '@dstack-cloud/app';

/** Who this guest says it is, before anything is measured. */
export interface Identities {
  /** The measured one. */
  readonly appId: AppId;
  /** 20 bytes, or empty when the application asks for none. */
  readonly instanceId: InstanceId;
  /** What `.instance_info` shall hold from now on. */
  readonly info: InstanceInfo;
}

/**
 * App and instance ids of docs/protocol/app-compose.md section 3: a configured app id counts only with the KMS as key
 * provider, since only the KMS checks it; with any other provider the measured id is the start of the compose hash. The
 * instance seed is fresh when there is none or no provider to bind it to.
 */
export function identities(
  compose: AppCompose,
  hash: ComposeHash,
  known: InstanceInfo,
  random: (size: number) => Uint8Array = (size) => new Uint8Array(randomBytes(size)),
): Identities {
  const configured = known.appId ?? defaultAppId(hash);
  const stored = compose.keyProvider === 'none' ? undefined : known.instanceIdSeed;
  const seed = stored ?? random(20);
  const instance = compose.noInstanceId ? (new Uint8Array(0) as InstanceId) : instanceId(seed, configured);
  return {
    appId: compose.keyProvider === 'kms' ? configured : defaultAppId(hash),
    instanceId: instance,
    info: { instanceIdSeed: seed, instanceId: instance, appId: configured },
  };
}
