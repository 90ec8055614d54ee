/** With a light client the head is what it says, and nothing without it. */
import { afterEach, describe, expect, test } from 'vitest';
import { facts } from '../../test/facts.ts';
import { type FakeChain, type FakeState, startFakeChain } from '../../test/fake-chain.ts';
import type { ChainEvent } from '../chain-event.ts';
import type { ChainPolicyOptions } from '../chain-options.ts';
import { type ChainPolicy, chainPolicy } from '../chain-policy.ts';

const NOW = 1_000_003;
const kmsContract = `0x${'ab'.repeat(20)}`;
const open: { close(): unknown }[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.close()));
});

async function node(state: Partial<FakeState> = {}): Promise<FakeChain> {
  const chain = await startFakeChain(state);
  open.push(chain);
  return chain;
}

function policyOf(
  lightClient: FakeChain,
  nodes: readonly FakeChain[],
  options: Partial<ChainPolicyOptions> = {},
): ChainPolicy {
  const policy = chainPolicy({
    rpcUrls: nodes.map(({ url }) => url),
    lightClientUrl: `${lightClient.url}/SECRET`,
    kmsContract,
    now: () => NOW,
    endpointTimeoutMs: 400,
    ...options,
  });
  open.push({ close: () => policy.close?.() });
  return policy;
}

const ask = (policy: ChainPolicy) => policy.authorize('app', facts());
const unavailable = { allowed: false, reason: 'authorization backend unavailable', failure: 'unavailable' };

test('an endpoint answers at the light client’s block, however far it is itself', async () => {
  const lightClient = await node();
  const rpc = await node({
    head: 200,
    headTime: NOW + 5_000,
    decide: (block) => ({ allowed: block === 100, reason: '' }),
  });
  expect(await ask(policyOf(lightClient, [rpc]))).toMatchObject({ allowed: true, blockNumber: 100n });
  expect(lightClient.count('eth_call')).toBe(0);
  expect(rpc.count('eth_getBlockByNumber')).toBe(0);
});

describe('denies', () => {
  test.each<[string, Partial<FakeState>, Partial<FakeState>, object]>([
    ['a light client that hangs', { mood: 'hang' }, {}, unavailable],
    ['a light client that answers 500', { mood: 'error' }, {}, unavailable],
    ['a light client that answers garbage', { mood: 'garbage' }, {}, unavailable],
    ['a light client of another chain', { chainId: 1 }, {}, unavailable],
    ['a light client on another branch', { branch: 'other' }, {}, unavailable],
    [
      'a light client that is behind, while the endpoint is not',
      { headTime: NOW - 121 },
      { headTime: NOW },
      { allowed: false, reason: 'on-chain state is stale', failure: 'stale' },
    ],
    ['an endpoint that does not have the block yet', {}, { head: 99 }, unavailable],
    ['an endpoint of another branch', {}, { branch: 'other' }, unavailable],
    ['an endpoint that hangs', {}, { mood: 'hang' }, unavailable],
  ])('with %s', async (_, lightClient, rpc, denial) => {
    const policy = policyOf(await node(lightClient), [await node(rpc)], { chainId: 31_337 });
    expect(await ask(policy)).toMatchObject(denial);
  });

  test('when the light client ends, at once, and allows again when it is back', async () => {
    const lightClient = await node();
    const policy = policyOf(lightClient, [await node()]);
    expect(await ask(policy)).toMatchObject({ allowed: true });
    lightClient.state.mood = 'error';
    expect(await ask(policy)).toMatchObject(unavailable);
    lightClient.state.mood = 'well';
    expect(await ask(policy)).toMatchObject({ allowed: true });
  });
});

test('calls still need a quorum: the light client says which block, not what is in it', async () => {
  const lightClient = await node();
  const lie = { decide: () => ({ allowed: true, reason: '' }) };
  const truth = { decide: () => ({ allowed: false, reason: 'no' }) };
  const [one, two, three] = [await node(lie), await node(truth), await node(truth)];
  expect(await ask(policyOf(lightClient, [one, two, three]))).toMatchObject({ allowed: false, reason: 'no' });
  expect(await ask(policyOf(lightClient, [one, two]))).toMatchObject({
    allowed: false,
    failure: 'no-quorum',
  });
});

test.each<[ChainPolicyOptions['finality'] & {}, number[]]>([
  ['latest', [100]],
  ['finalized', [90, 100]],
  [3, [97, 100]],
])('finality %s is asked of the light client', async (finality, blocks) => {
  const lightClient = await node();
  const asked = new Set<number>();
  const decide = (block: number) => {
    asked.add(block);
    return { allowed: true, reason: '' };
  };
  const rpc = await node({ head: 150, decide });
  expect(await ask(policyOf(lightClient, [rpc], { finality }))).toMatchObject({ allowed: true });
  expect([...asked].sort((a, b) => a - b)).toEqual(blocks);
});

test('a light client that changes the branch between head and finalized block is asked again', async () => {
  const lightClient = await node();
  const asked = new Set<string>();
  const decide: FakeState['decide'] = (_, branch) => {
    asked.add(branch);
    return { allowed: true, reason: '' };
  };
  const rpc = await node({ branch: 'other', branchesBefore: ['main'], decide });
  lightClient.state.before = (_, [which]) => {
    if (which === 'finalized') lightClient.state.branch = 'other';
  };
  expect(await ask(policyOf(lightClient, [rpc], { finality: 'finalized' }))).toMatchObject({ allowed: true });
  expect([...asked]).toEqual(['other']);
});

test('shows its state by scheme and host, and its failures', async () => {
  const lightClient = await node({ mood: 'error' });
  const rpc = await node();
  const events: ChainEvent[] = [];
  const policy = policyOf(lightClient, [rpc], { onEvent: (event) => void events.push(event) });
  await ask(policy);
  expect(policy.status().endpoints).toEqual([
    expect.objectContaining({ url: lightClient.url, healthy: false }),
    expect.objectContaining({ url: rpc.url, healthy: true }),
  ]);
  expect(events).toContainEqual(expect.objectContaining({ endpoint: lightClient.url }));
});

test('an address that cannot be one is refused at once', async () => {
  const rpc = await node();
  const options = { rpcUrls: [rpc.url], kmsContract, lightClientUrl: 'helios:8545' };
  expect(() => chainPolicy(options)).toThrow(expect.objectContaining({ code: 'bad-configuration' }));
});
