import { table } from '@dstack-cloud/app';
import { isWireGuardKey } from '@dstack-cloud/wireguard';
import { z } from 'zod';
import { GatewayError } from '../errors.ts';
import type { StateStore } from '../state/state-store.ts';
import { instanceToJson } from './stored-instance.ts';

const MAX_INSTANCES = 1_000_000;
/** What the original does not keep: of no app-compose, so that ports stay closed until the guest registers again. */
const UNKNOWN_HASH = '0'.repeat(64);

const time = z.object({ secs_since_epoch: z.int().min(0) });
const schema = z.object({
  instances: table(
    z.object({ id: z.string(), app_id: z.string(), ip: z.string(), public_key: z.string(), reg_time: time }),
  ),
});
const good = z.object({
  id: z.string().regex(/^[0-9a-f]{40}$/),
  app_id: z.string().regex(/^[0-9a-f]{40}$/),
  ip: z.ipv4(),
  public_key: z.string().refine(isWireGuardKey, 'not a WireGuard key'),
});

/** What became of the registrations of a file. */
export type Imported = {
  readonly taken: number;
  /** Already there, with whatever they have. */
  readonly known: number;
  readonly leftOut: readonly { readonly id: string; readonly why: string }[];
};

/**
 * Takes over the registrations of a gateway of the 0.6 line from its `gateway-state.json`, so that guests keep their addresses
 * and tunnels. Each is one transaction; what is there already is left alone, so that it can be done again after a kill.
 * @throws GatewayError `config-invalid` for another file, `state` when the store fails
 */
export async function importState(text: string, store: StateStore): Promise<Imported> {
  const instances = read(text);
  const leftOut: { id: string; why: string }[] = [];
  let [taken, known] = [0, 0];
  const keys = new Set<string>();
  for (const one of instances) {
    const parsed = good.safeParse(one);
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      leftOut.push({ id: one.id.slice(0, 80), why: `${issue?.path.join('.')}: ${issue?.message}` });
      continue;
    }
    const { id, app_id: appId, ip, public_key: publicKey } = parsed.data;
    if (keys.has(publicKey)) {
      leftOut.push({ id, why: 'another instance has its key' });
      continue;
    }
    keys.add(publicKey);
    const value = instanceToJson({
      ...{ instanceId: id, appId, ip, publicKey, composeHash: UNKNOWN_HASH },
      registeredAt: one.reg_time.secs_since_epoch,
    });
    const fresh = (key: string) => ({ key, revision: 0 });
    const [instance, address] = [`inst/${id}`, `ip/${ip}`];
    const at = await store.commit(
      [fresh(instance), fresh(address)],
      [
        { key: instance, value },
        { key: address, value: id },
      ],
    );
    if (at !== undefined) taken += 1;
    else if ((await store.list(instance)).entries.length > 0) known += 1;
    else leftOut.push({ id, why: `another instance has the address ${ip}` });
  }
  return { taken, known, leftOut };
}

function read(text: string): z.infer<typeof schema>['instances'][string][] {
  try {
    const found = Object.values(schema.parse(JSON.parse(text)).instances);
    if (found.length > MAX_INSTANCES) throw new Error('it has too many instances');
    return found;
  } catch (cause) {
    const why =
      cause instanceof z.ZodError ? z.prettifyError(cause).replaceAll('\n', ' ') : (cause as Error).message;
    throw new GatewayError(
      'config-invalid',
      `This is no state file of a gateway of the 0.6 line: ${why.slice(0, 300)}`,
      {
        cause,
      },
    );
  }
}
