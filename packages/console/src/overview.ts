import { roleOf } from '@dstack-cloud/governance';
import type { Observer } from '@dstack-cloud/watcher';
import { LISTS, type ListName } from './lists.ts';
import type { Health } from './start-console.ts';

/** Names of one kind that are shown at once. */
const MAX_SHOWN = 50;
const ZERO_ADDRESS = `0x${'0'.repeat(40)}`;

/**
 * What the top of the page shows. Until the deployment of DstackKms was read from the chain, nothing is known of it: a proxy
 * always has an implementation, so an empty model is no policy that allows nothing, and none that is active.
 */
export function overviewOf(observer: Observer, health: readonly Health[]): object {
  const { model, status, now } = observer;
  const { kms } = model;
  const isRead = status.block !== null && kms.implementation !== ZERO_ADDRESS;
  const kindOf = (address: string): string =>
    model.timelocks.has(address)
      ? 'Timelock'
      : model.safes.has(address)
        ? 'Safe'
        : 'account or other contract';
  const named = (address: string) => ({ address, kind: kindOf(address) });
  /** A Timelock whose role the zero address has lets everybody use that role. */
  const inRole = (address: string) =>
    address === ZERO_ADDRESS ? { address, kind: 'anybody' } : named(address);
  const pending = [
    ...[...model.timelocks.values()].flatMap(({ operations }) =>
      [...operations.values()].filter(({ state }) => state === 'pending'),
    ),
    ...observer.announced,
  ];
  const first = (name: ListName): object | null => LISTS[name](observer)[0]?.() ?? null;
  return {
    now,
    chain: status,
    kms: isRead
      ? {
          address: observer.kms,
          owner: named(kms.owner),
          pendingOwner: kms.pendingOwner,
          implementation: kms.implementation,
          appImplementation: kms.appImplementation,
          gatewayAppId: kms.gatewayAppId,
          rootKey: kms.rootKey,
          paused: kms.paused,
          policyDelay: kms.policyDelay,
          guardians: [...kms.guardians].slice(0, MAX_SHOWN).map(named),
          deniedAdvisories: [...kms.deniedAdvisories.values()].slice(0, MAX_SHOWN),
        }
      : null,
    timelocks: [...model.timelocks].slice(0, MAX_SHOWN).map(([address, { minDelay, roles }]) => ({
      address,
      minDelay,
      roles: [...roles].map(([role, accounts]) => ({
        role: roleOf(role as `0x${string}`) ?? role,
        accounts: [...accounts].slice(0, MAX_SHOWN).map(inRole),
      })),
    })),
    safes: [...model.safes].slice(0, MAX_SHOWN).map(([address, safe]) => ({
      address,
      threshold: safe.threshold,
      owners: [...safe.owners]
        .slice(0, MAX_SHOWN)
        .map((owner) => ({ address: owner, lastSeen: safe.lastSeen.get(owner) ?? null })),
      modules: [...safe.modules].slice(0, MAX_SHOWN),
      guard: safe.guard,
      executed: safe.executed,
    })),
    counts: isRead
      ? {
          images: kms.images.size,
          measurements: kms.measurements.size,
          devices: kms.devices.size,
          apps: [...model.apps.values()].filter(({ registered }) => registered).length,
          waiting: observer.waiting.length,
          pending: pending.length + observer.waiting.length,
          ready: pending.filter(({ readyAt }) => readyAt <= now).length,
        }
      : null,
    /** What the next pending operation is, and the newest change. */
    next: pending.length === 0 ? first('transactions') : first('operations'),
    service: observer.service ?? null,
    lastChange: first('changes'),
    health,
  };
}
