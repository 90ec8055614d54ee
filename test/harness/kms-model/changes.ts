/** What happens to the chain of the model: decisions of its owner, empty blocks, reorganisations. */
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { bootOf, hexOf } from '../simulated-workload.ts';
import type { Model, World } from './model.ts';
import type { Policy } from './timeline.ts';

export type Change =
  | { readonly kind: 'app'; readonly app: number; readonly allowed: boolean }
  | { readonly kind: 'image'; readonly allowed: boolean }
  | { readonly kind: 'service'; readonly service: number; readonly allowed: boolean }
  | { readonly kind: 'mine' }
  | { readonly kind: 'snapshot' }
  /** The blocks since the last snapshot are not in the chain any more. */
  | { readonly kind: 'reorganise' };

/** Made so many milliseconds after the one before. */
export type TimedChange = { readonly change: Change; readonly afterMs: number };

const MAX_SNAPSHOTS = 4;

const replaced = (list: readonly boolean[], at: number, value: boolean): readonly boolean[] =>
  list.map((before, index) => (index === at ? value : before));

/** Each makes one block, or takes some away; when it returns, the chain is as the model says. */
export async function applyChange(change: Change, model: Model, world: World): Promise<void> {
  const before = model.blocks.at(-1)!;
  const block = async (policy: Policy): Promise<void> => {
    model.blocks.push(policy);
    world.timeline.note(model.blocks, await world.chain.head());
  };
  switch (change.kind) {
    case 'app': {
      const { app, allowed } = change;
      const { appId, composeHash } = world.apps[app]!.workload;
      await world.chain.app(
        hexOf(appId),
        allowed ? 'addComposeHash' : 'removeComposeHash',
        hexOf(composeHash),
      );
      return block({ ...before, apps: replaced(before.apps, app, allowed) });
    }
    case 'image': {
      const hash = hexOf(bootOf(world.apps[0]!.workload.image).osImageHash);
      await world.chain.kms(change.allowed ? 'addOsImageHash' : 'removeOsImageHash', hash);
      return block({ ...before, isImageAllowed: change.allowed });
    }
    case 'service': {
      const { service, allowed } = change;
      const { measurement } = world.services[service]!;
      await world.chain.kms(allowed ? 'addKmsAggregatedMr' : 'removeKmsAggregatedMr', measurement);
      return block({ ...before, services: replaced(before.services, service, allowed) });
    }
    case 'mine':
      await world.chain.mine();
      return block(before);
    case 'snapshot':
      if (model.snapshots.length >= MAX_SNAPSHOTS) return;
      world.snapshots.push(await world.chain.snapshot());
      model.snapshots.push(model.blocks);
      model.blocks = [...model.blocks];
      return;
    case 'reorganise': {
      const name = world.snapshots.pop();
      if (name === undefined) return;
      await world.chain.revert(name);
      model.blocks = model.snapshots.pop()!;
      world.timeline.note(model.blocks, await world.chain.head(), true);
    }
  }
}

/** One after the other, each after its pause. */
export async function applyChanges(timed: readonly TimedChange[], model: Model, world: World): Promise<void> {
  for (const { change, afterMs } of timed) {
    await sleep(afterMs);
    await applyChange(change, model, world);
  }
}

/** Changes of `apps` applications and `services` key services; permissions come back more often than they go. */
export function changes(apps: number, services: number): fc.Arbitrary<Change> {
  const always = <T extends Change>(change: T): fc.Arbitrary<Change> => fc.constant(change);
  const app = fc.nat({ max: apps - 1 });
  const service = fc.nat({ max: services - 1 });
  return fc.oneof(
    {
      weight: 5,
      arbitrary: fc
        .record({ app, allowed: fc.boolean() })
        .map((which): Change => ({ kind: 'app', ...which })),
    },
    { weight: 4, arbitrary: always({ kind: 'mine' }) },
    { weight: 3, arbitrary: always({ kind: 'snapshot' }) },
    { weight: 3, arbitrary: always({ kind: 'reorganise' }) },
    { weight: 1, arbitrary: always({ kind: 'image', allowed: false }) },
    { weight: 2, arbitrary: always({ kind: 'image', allowed: true }) },
    {
      weight: 1,
      arbitrary: service.map((which): Change => ({ kind: 'service', service: which, allowed: false })),
    },
    {
      weight: 2,
      arbitrary: service.map((which): Change => ({ kind: 'service', service: which, allowed: true })),
    },
  );
}
