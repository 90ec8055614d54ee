import { fromHex, toHex } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { type AppId, asAppId, asInstanceId, type InstanceId } from './ids.ts';
import { parseDocument } from './parse-document.ts';

/** `.instance_info`: the identity that the host keeps for an instance; absent or empty members are undefined. */
export interface InstanceInfo {
  /** 20 random bytes that make the instance id. */
  readonly instanceIdSeed: Uint8Array | undefined;
  readonly instanceId: InstanceId | undefined;
  readonly appId: AppId | undefined;
}

const hex20 = z
  .string()
  .regex(/^(?:[0-9a-fA-F]{40})?$/, 'must be 20 bytes of hex, or empty')
  .nullish();
const schema = z.object({ instance_id_seed: hex20, instance_id: hex20, app_id: hex20 });

/**
 * Reads `.instance_info`.
 *
 * @throws AppError `instance-info-invalid`
 */
export function parseInstanceInfo(source: Uint8Array | string): InstanceInfo {
  const info = parseDocument(source, schema, 'instance-info-invalid', '.instance_info');
  const bytes = (text: string | null | undefined) => (text ? fromHex(text.toLowerCase()) : undefined);
  const instance = bytes(info.instance_id);
  const app = bytes(info.app_id);
  return {
    instanceIdSeed: bytes(info.instance_id_seed),
    instanceId: instance && asInstanceId(instance),
    appId: app && asAppId(app),
  };
}

/** Text of `.instance_info`, and payload of the `instance.info` notification. */
export function serializeInstanceInfo(info: InstanceInfo): string {
  const hex = (bytes: Uint8Array | undefined) => toHex(bytes ?? new Uint8Array(0));
  return JSON.stringify({
    instance_id_seed: hex(info.instanceIdSeed),
    instance_id: hex(info.instanceId),
    app_id: hex(info.appId),
  });
}
