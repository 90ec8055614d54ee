/** One endpoint stands still and another is late: together they must not bring an older head back. */
import { afterEach, expect, test } from 'vitest';
import type { Decision } from '../../policy.ts';
import {
  type AppState,
  appIdOf,
  type ContractState,
  ContractWorld,
  KMS,
  startWorldNode,
} from '../../test/contract-world.ts';
import { facts } from '../../test/facts.ts';
import { chainPolicy } from '../chain-policy.ts';

/** Longer than others wait for who is late, shorter than a request may take. */
const LATE_MS = 300;

const open: { close(): unknown }[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.close()));
});

const stateOf = (allowed: boolean): ContractState => {
  const app: AppState = { allowed, counts: false, epoch: 0, notAfter: 0, implementation: 7 };
  return { counts: false, epoch: 0, imageAllowed: true, imageNotAfter: 0, implementation: 9, apps: [app] };
};

async function setting() {
  const world = new ContractWorld(stateOf(true));
  for (let block = 0; block < 4; block++) world.mine(stateOf(true));
  const nodes = await Promise.all([1, 2, 3].map(() => startWorldNode(world)));
  const policy = chainPolicy({
    ...{ rpcUrls: nodes.map(({ url }) => url), kmsContract: KMS, headReuseMs: 0 },
    ...{ endpointTimeoutMs: 2_000, now: () => world.head.timestamp },
  });
  open.push(...nodes, { close: () => policy.close?.() });
  const decide = (): Promise<Decision> => policy.authorize('app', facts({ appId: appIdOf(0) }));
  const ask = async (): Promise<boolean> => (await decide()).allowed;
  const [frozen, , late] = nodes;
  return { world, ask, decide, frozen: frozen!, late: late! };
}

test('a revocation that was seen stays seen', async () => {
  const { world, ask, frozen, late } = await setting();
  expect(await ask()).toBe(true);
  frozen.behaviour = { type: 'stale', block: world.head };
  world.mine(stateOf(false));
  expect(await ask()).toBe(false);
  late.behaviour = { type: 'slow', ms: LATE_MS };
  // The second time the late one rests, because it was late.
  for (let time = 0; time < 3; time++) expect(await ask()).toBe(false);
});

test('a revocation that nobody saw yet is seen, although the one that knows it is late', async () => {
  const { world, ask, frozen, late } = await setting();
  expect(await ask()).toBe(true);
  frozen.behaviour = { type: 'stale', block: world.head };
  late.behaviour = { type: 'slow', ms: LATE_MS };
  for (let block = 0; block < 2; block++) world.mine(stateOf(false));
  for (let time = 0; time < 3; time++) expect(await ask()).toBe(false);
});

test('a chain that became shorter is believed, once that can be told from an endpoint that is behind', async () => {
  const { world, decide, late } = await setting();
  for (let block = 0; block < 3; block++) {
    expect(await decide()).toMatchObject({ allowed: true });
    world.mine(stateOf(true));
  }
  expect(await decide()).toMatchObject({ allowed: true });
  late.behaviour = { type: 'slow', ms: LATE_MS };
  world.forget(3);
  world.mine(stateOf(false));
  // A block of a number that was seen before, and not that block.
  expect(await decide()).toEqual({ allowed: false, reason: 'no', gatewayAppId: 'g', blockNumber: 105n });
});

test('a head that may be an ancestor of the one before is not decided at, whatever it says', async () => {
  const { world, decide } = await setting();
  world.mine(stateOf(true));
  expect(await decide()).toMatchObject({ allowed: true });
  world.forget(3);
  world.mine(stateOf(true));
  expect(await decide()).toMatchObject({ allowed: false, failure: 'stale' });
  world.mine(stateOf(true), 60);
  expect(await decide()).toMatchObject({ allowed: true, blockNumber: 104n });
});
