import type { Instance } from './instance.ts';
import type { InstanceHealth } from './instance-health.ts';
import type { RoutingTable } from './routing-table.ts';

/** How instances of one application are ordered. */
export type BalancePolicy = 'fastest-handshake' | 'least-connections';

/** Unix seconds of the latest WireGuard handshake by public key; 0 for a peer that never had one. */
export type Handshakes = ReadonlyMap<string, number>;

export type ChooseOptions = {
  readonly table: RoutingTable;
  readonly health: InstanceHealth;
  readonly handshakes: Handshakes;
  /** How many candidates at most; 0 for one at random. */
  readonly topN: number;
  /** An instance without a handshake for so many seconds is left out. */
  readonly staleSeconds: number;
  readonly policy: BalancePolicy;
  /** Unix seconds. */
  readonly now: number;
  /** From 0 to below 1. */
  readonly random?: () => number;
};

/**
 * The instances to try, the best first (docs/protocol/gateway.md section 4). An instance id names that instance whether or
 * not its tunnel is alive; of an application the instances with a tunnel are chosen, and those that failed of late only
 * when there is no other.
 */
export function chooseInstances(id: string, options: ChooseOptions): readonly Instance[] {
  const { table, health, topN, policy, random = Math.random } = options;
  const exact = table.get(id);
  if (exact !== undefined) return [exact];
  const alive = table.ofApp(id).filter((instance) => ageOf(instance, options) < options.staleSeconds);
  const up = alive.filter(({ instanceId }) => health.isUp(instanceId));
  const candidates = up.length > 0 ? up : alive;
  if (topN === 0) {
    const one = candidates[Math.floor(random() * candidates.length)];
    return one === undefined ? [] : [one];
  }
  const cost = (instance: Instance): number =>
    policy === 'least-connections' ? health.open(instance.instanceId) : ageOf(instance, options);
  // Stable: ties keep the order of the ids.
  return [...candidates].sort((one, other) => cost(one) - cost(other)).slice(0, topN);
}

function ageOf({ publicKey }: Instance, { handshakes, now }: ChooseOptions): number {
  const at = handshakes.get(publicKey) ?? 0;
  return at === 0 ? Number.POSITIVE_INFINITY : Math.max(0, now - at);
}
