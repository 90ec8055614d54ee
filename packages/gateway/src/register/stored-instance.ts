import { isWireGuardKey } from '@dstack-cloud/wireguard';
import { z } from 'zod';
import type { Instance } from '../routes/instance.ts';

const id = z.string().regex(/^[0-9a-f]{40}$/);

/** Form of a record of this version; members that a newer one adds are kept out of the way. */
const schema = z.object({
  version: z.literal(1),
  instance_id: id,
  app_id: id,
  compose_hash: z.string().regex(/^[0-9a-f]{64}$/),
  ip: z.ipv4(),
  public_key: z.string().refine(isWireGuardKey, 'not a WireGuard key'),
  registered_at: z.int().nonnegative(),
  port_policy: z
    .object({
      ports: z.array(z.object({ port: z.int().min(1).max(65_535), pp: z.boolean() })).max(1_024),
      restrict_mode: z.boolean(),
    })
    .optional(),
});

/** The record that stands for an instance in the store. */
export function instanceToJson(instance: Instance): string {
  const { portPolicy } = instance;
  return JSON.stringify({
    version: 1,
    instance_id: instance.instanceId,
    app_id: instance.appId,
    compose_hash: instance.composeHash,
    ip: instance.ip,
    public_key: instance.publicKey,
    registered_at: instance.registeredAt,
    ...(portPolicy && {
      port_policy: {
        ports: portPolicy.ports.map(({ port, proxyProtocol }) => ({ port, pp: proxyProtocol })),
        restrict_mode: portPolicy.restrict,
      },
    }),
  });
}

/** @returns the instance, or what is wrong with its record */
export function instanceFromJson(text: string): Instance | string {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return 'it is not JSON';
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    return `${issue?.path.join('.') ?? ''}: ${issue?.message}`;
  }
  const { port_policy: policy, ...record } = parsed.data;
  return {
    instanceId: record.instance_id,
    appId: record.app_id,
    composeHash: record.compose_hash,
    ip: record.ip,
    publicKey: record.public_key,
    registeredAt: record.registered_at,
    ...(policy && {
      portPolicy: {
        ports: policy.ports.map(({ port, pp }) => ({ port, proxyProtocol: pp })),
        restrict: policy.restrict_mode,
      },
    }),
  };
}
