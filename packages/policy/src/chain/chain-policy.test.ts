/** The chain source against nodes that are dead, slow, stale, forked, or lie. */
import { afterEach, describe, expect, test, vi } from 'vitest';
import { facts } from '../test/facts.ts';
import { type FakeChain, type FakeState, startFakeChain } from '../test/fake-chain.ts';
import type { ChainEvent } from './chain-event.ts';
import type { ChainPolicyOptions } from './chain-options.ts';
import { type ChainPolicy, chainPolicy } from './chain-policy.ts';

const NOW = 1_000_003;
const kmsContract = `0x${'ab'.repeat(20)}`;
const denial = (reason: string): { allowed: boolean; reason: string } => ({ allowed: false, reason });

const open: { close(): unknown }[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.close()));
});

async function nodes(...states: Partial<FakeState>[]): Promise<FakeChain[]> {
  const started = await Promise.all(states.map((state) => startFakeChain(state)));
  open.push(...started);
  return started;
}

function policyOf(chains: readonly FakeChain[], options: Partial<ChainPolicyOptions> = {}): ChainPolicy {
  const policy = chainPolicy({
    rpcUrls: chains.map(({ url }) => `${url}/v2/SECRET-KEY`),
    kmsContract,
    now: () => NOW,
    endpointTimeoutMs: 400,
    ...options,
  });
  open.push({ close: () => policy.close?.() });
  return policy;
}

describe('one endpoint', () => {
  test('answers the contract, the gateway and the block', async () => {
    const [node] = await nodes({});
    const policy = policyOf([node!], { chainId: 31_337 });
    expect(await policy.authorize('app', facts())).toEqual({
      allowed: true,
      reason: '',
      gatewayAppId: 'gateway',
      blockNumber: 100n,
    });
    node!.state.decide = () => denial('Compose hash not allowed');
    node!.state.head += 1;
    expect(await policy.authorize('app', facts())).toEqual({
      allowed: false,
      reason: 'Compose hash not allowed',
      gatewayAppId: 'gateway',
      blockNumber: 101n,
    });
  });

  test('describes itself without the path of the endpoint, once a second at most', async () => {
    const [node] = await nodes({});
    const policy = policyOf([node!]);
    const [info] = await Promise.all([policy.describe(), policy.describe()]);
    await policy.describe();
    expect(info).toEqual({
      kmsContract,
      chainId: 31_337,
      gatewayAppId: 'gateway',
      appImplementation: `0x${'aBc'.padStart(40, '0')}`,
      ethRpcUrl: node!.url,
    });
    expect(node!.seen).toHaveLength(2);
  });

  test.each<[string, Partial<FakeState>, string, string]>([
    ['stale-chain-view', { headTime: NOW - 121 }, 'on-chain state is stale', 'stale'],
    ['a head from the future', { headTime: NOW + 130 }, 'on-chain time is ahead of the local clock', 'stale'],
    ['another chain', { chainId: 1 }, 'authorization backend unavailable', 'unavailable'],
    ['no contract there', { isPolicy: false }, 'authorization backend unavailable', 'unavailable'],
    ['a node that hangs', { mood: 'hang' }, 'authorization backend unavailable', 'unavailable'],
    ['a node that answers garbage', { mood: 'garbage' }, 'authorization backend unavailable', 'unavailable'],
    ['a node that answers 500', { mood: 'error' }, 'authorization backend unavailable', 'unavailable'],
    ['a node that never stops', { mood: 'endless' }, 'authorization backend unavailable', 'unavailable'],
  ])('%s denies', async (_, state, reason, failure) => {
    const policy = policyOf(await nodes(state), { chainId: 31_337 });
    const decision = { allowed: false, reason, gatewayAppId: '', failure };
    expect(await policy.authorize('app', facts())).toEqual(decision);
    expect(await policy.authorize('kms', facts())).toEqual(decision);
  });

  test.each([
    ['revert', 'App authorization call failed: no'],
    ['nonsense', 'App authorization call failed'],
  ] as const)('an app contract that answers with %s denies', async (how, reason) => {
    const policy = policyOf(await nodes({ decide: () => how }));
    const decision = await policy.authorize('app', facts());
    expect(decision).toMatchObject(denial(reason));
    expect(decision.failure).toBeUndefined();
  });

  test('frozen-rpc: the last block grows old, and nothing is allowed any more', async () => {
    const [node] = await nodes({});
    let now = NOW;
    const policy = policyOf([node!], { now: () => now });
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
    now += 200;
    expect(await policy.authorize('app', facts())).toMatchObject(denial('on-chain state is stale'));
    expect(policy.status().lagSeconds).toBe(203);
  });

  test('clock-jumps-back: an old block must not look fresh', async () => {
    let now = NOW;
    const policy = policyOf(await nodes({}), { now: () => now });
    now -= 3_600;
    expect((await policy.authorize('app', facts())).allowed).toBe(false);
  });

  test('a node that recovers is used again at once', async () => {
    const [node] = await nodes({ mood: 'error' });
    const policy = policyOf([node!]);
    for (let i = 0; i < 5; i++) await policy.authorize('app', facts());
    node!.state.mood = 'well';
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
    expect(policy.status().endpoints).toMatchObject([{ url: node!.url, healthy: true, failures: 0 }]);
  });

  test('works without batches and without block hashes in calls', async () => {
    const [node] = await nodes({ batches: false, blockHashCalls: false });
    const policy = policyOf([node!]);
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
    const asked = node!.seen.length;
    node!.state.head += 1;
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
    // Two for the head; one call and two, each with the block before and after: the tries are not repeated.
    expect(node!.seen.length - asked).toBe(2 + 3 + 4);
  });

  test('facts of wrong length are refused before the chain is asked', async () => {
    const [node] = await nodes({});
    const policy = policyOf([node!]);
    await expect(policy.authorize('app', facts({ composeHash: new Uint8Array(31) }))).rejects.toMatchObject({
      code: 'invalid-request',
    });
    expect(node!.seen).toEqual([]);
  });
});

describe('sharing', () => {
  test('many requests at one block ask the contract once', async () => {
    const [node] = await nodes({});
    const policy = policyOf([node!]);
    await Promise.all(Array.from({ length: 50 }, () => policy.authorize('app', facts())));
    await policy.authorize('app', facts());
    expect(node!.count('eth_call')).toBe(3);
    // One running and one shared by those who came while it ran, then one for the last.
    expect(node!.count('eth_chainId')).toBe(3);
    // What the contract says of itself is known at this block.
    await policy.authorize('kms', facts());
    expect(node!.count('eth_call')).toBe(4);
  });

  test('revoked-between-requests: the next block decides anew', async () => {
    const [node] = await nodes({});
    const policy = policyOf([node!]);
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
    node!.state.head += 1;
    node!.state.decide = (block) =>
      block > 100 ? denial('Compose hash not allowed') : { allowed: true, reason: '' };
    expect((await policy.authorize('app', facts())).allowed).toBe(false);
  });

  test('a reorganisation at the same height decides anew', async () => {
    const [node] = await nodes({});
    const policy = policyOf([node!]);
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
    node!.state.branch = 'fork';
    node!.state.decide = () => denial('App not registered');
    expect((await policy.authorize('app', facts())).allowed).toBe(false);
  });

  test('denials are asked again', async () => {
    const [node] = await nodes({ decide: () => denial('no') });
    const policy = policyOf([node!]);
    await policy.authorize('app', facts());
    await policy.authorize('app', facts());
    expect(node!.count('eth_call')).toBe(4);
  });

  test('with headReuseMs no permitted request waits for the chain, and no denial comes from an old head', async () => {
    const [node] = await nodes({ decide: () => denial('no') });
    const policy = policyOf([node!], { headReuseMs: 5_000 });
    expect((await policy.authorize('app', facts())).allowed).toBe(false);
    node!.state.head += 1;
    node!.state.decide = () => ({ allowed: true, reason: '' });
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
    const calls = node!.count('eth_call');
    const heads = node!.count('eth_chainId');
    for (let i = 0; i < 2_000; i++) expect((await policy.authorize('app', facts())).allowed).toBe(true);
    // Once more at most: when the head moves on.
    expect(node!.count('eth_call') - calls).toBeLessThanOrEqual(3);
    // Renewed in the background now and then.
    expect(node!.count('eth_chainId') - heads).toBeLessThan(100);
  });
});

describe('a head that is used again', () => {
  test('is not used for a request that comes after a pause longer than it may serve', async () => {
    const [node] = await nodes({});
    const policy = policyOf([node!], { headReuseMs: 100 });
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
    node!.state.mood = 'hang';
    await new Promise((resolve) => setTimeout(resolve, 110));
    node!.state.mood = 'well';
    node!.state.head += 1;
    node!.state.decide = () => denial('Compose hash not allowed');
    expect((await policy.authorize('app', facts())).allowed).toBe(false);
  });

  test('under load is revalidated, so that a revocation is seen within the time that it may serve', async () => {
    const [node] = await nodes({});
    const policy = policyOf([node!], { headReuseMs: 1_000 });
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
    node!.state.head += 1;
    node!.state.decide = (block) =>
      block > 100 ? denial('Compose hash not allowed') : { allowed: true, reason: '' };
    const revoked = performance.now();
    while ((await policy.authorize('app', facts())).allowed) await new Promise(setImmediate);
    expect(performance.now() - revoked).toBeLessThan(1_000);
  });

  test('does not let a snapshot that is too old deny what a fresh one allows', async () => {
    let now = 1_000_000;
    const [node] = await nodes({});
    const policy = policyOf([node!], { headReuseMs: 1_000, now: () => now });
    now = 1_000_500;
    expect(await policy.authorize('app', facts())).toMatchObject({ allowed: false, failure: 'stale' });
    now = 1_000_000;
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
  });
});

describe('three endpoints, two must agree', () => {
  const allow = { decide: () => ({ allowed: true, reason: '' }) };
  const deny = { decide: () => denial('Compose hash not allowed') };

  test('lying-rpc: one that allows does not win', async () => {
    const policy = policyOf(await nodes(deny, allow, deny));
    expect(await policy.authorize('app', facts())).toMatchObject(denial('Compose hash not allowed'));
  });
  test('lying-rpc: one that denies does not win', async () => {
    const policy = policyOf(await nodes(allow, deny, allow));
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
  });
  test('lying-rpc: one that invents a later block', async () => {
    const policy = policyOf(await nodes(deny, { ...allow, head: 5_000 }, deny));
    expect(await policy.authorize('app', facts())).toMatchObject({
      ...denial('Compose hash not allowed'),
      blockNumber: 100n,
    });
  });
  test('lying-rpc: one on another branch', async () => {
    const policy = policyOf(await nodes({ ...allow, branch: 'fork' }, deny, deny));
    expect(await policy.authorize('app', facts())).toMatchObject(denial('Compose hash not allowed'));
  });
  test('frozen-rpc: one that stands still does not hold the others back', async () => {
    const policy = policyOf(await nodes(deny, { ...allow, head: 50, headTime: 900_000 }, deny));
    expect(await policy.authorize('app', facts())).toMatchObject({
      ...denial('Compose hash not allowed'),
      blockNumber: 100n,
    });
  });
  test('the highest block that two have reached counts', async () => {
    const policy = policyOf(
      await nodes({ head: 102, headTime: 1_000_004 }, { head: 101, headTime: 1_000_002 }, {}),
    );
    expect(await policy.authorize('app', facts())).toMatchObject({ allowed: true, blockNumber: 101n });
  });
  test.each(['hang', 'error', 'garbage'] as const)('one that is dead (%s) does no harm', async (mood) => {
    const events: ChainEvent[] = [];
    const chains = await nodes({}, { mood }, {});
    const policy = policyOf(chains, { onEvent: (event) => events.push(event) });
    for (let i = 0; i < 3; i++) expect((await policy.authorize('app', facts())).allowed).toBe(true);
    await vi.waitFor(() => expect(events.some(({ type }) => type === 'endpoint-failed')).toBe(true));
    expect(
      JSON.stringify(events, (_, value) => (typeof value === 'bigint' ? Number(value) : value)),
    ).not.toContain('SECRET');
    // It rests while the others suffice.
    expect(chains[1]!.seen.length).toBeLessThan(3);
  });
  test('two that are dead deny', async () => {
    const policy = policyOf(await nodes({}, { mood: 'error' }, { mood: 'hang' }));
    expect(await policy.authorize('app', facts())).toEqual({
      allowed: false,
      reason: 'RPC quorum not reached',
      gatewayAppId: '',
      failure: 'no-quorum',
    });
  });
  test('three opinions deny', async () => {
    const policy = policyOf(await nodes(allow, deny, { decide: () => denial('Device not allowed') }));
    expect(await policy.authorize('app', facts())).toMatchObject(denial('RPC quorum not reached'));
  });
  test('three branches deny', async () => {
    const policy = policyOf(await nodes({ branch: 'a' }, { branch: 'b' }, { branch: 'c' }));
    expect(await policy.authorize('app', facts())).toMatchObject(denial('RPC quorum not reached'));
  });
  test('two of another chain deny', async () => {
    const policy = policyOf(await nodes({}, { chainId: 1 }, { chainId: 1 }), { chainId: 31_337 });
    expect(await policy.authorize('app', facts())).toMatchObject(denial('RPC quorum not reached'));
  });
  test('two that differ about the gateway deny', async () => {
    const policy = policyOf(await nodes({ gatewayAppId: 'a' }, { gatewayAppId: 'b' }));
    expect(await policy.authorize('app', facts())).toMatchObject(denial('RPC quorum not reached'));
  });
});

describe('finality', () => {
  const since =
    (block: number): FakeState['decide'] =>
    (at) =>
      at >= block ? { allowed: true, reason: '' } : denial('too early');

  test.each(['finalized', 10] as const)(
    '%s: a permission must hold at a finalized block',
    async (finality) => {
      const [node] = await nodes({ decide: since(91) });
      const policy = policyOf([node!], { finality });
      expect(await policy.authorize('app', facts())).toMatchObject(denial('too early'));
      node!.state.head = 101;
      expect(await policy.authorize('app', facts())).toMatchObject({ allowed: true, blockNumber: 101n });
    },
  );
  test.each(['finalized', 10] as const)('%s: a denial counts at once', async (finality) => {
    const policy = policyOf(
      await nodes({ decide: (at) => (at < 100 ? { allowed: true, reason: '' } : denial('revoked')) }),
      {
        finality,
      },
    );
    expect(await policy.authorize('app', facts())).toMatchObject(denial('revoked'));
  });
  /** The branch from each call for this block on, one after the other. */
  const turnAt = (node: FakeChain, tag: string, branches: readonly string[]): void => {
    const left = [...branches];
    node.state.before = (method, [which]) => {
      if (method === 'eth_getBlockByNumber' && which === tag) node.state.branch = left.shift() ?? 'main';
    };
  };
  /** Each branch denies at one of its blocks; the head of `main` and the finalized block of `other` allow. */
  const mixed: Partial<FakeState> = {
    branchesBefore: ['main', 'other'],
    decide: (at, branch) =>
      (at === 100) === (branch === 'main') ? { allowed: true, reason: '' } : denial(`no of ${branch}`),
  };

  describe.each([
    ['finalized', 'finalized'],
    [10, '0x5a'],
  ] as const)('%s: a branch that comes between head and finalized block', (finality, tag) => {
    test('is decided at whole', async () => {
      const [node] = await nodes(mixed);
      node!.state.before = (method, [which]) => {
        if (method === 'eth_getBlockByNumber' && which === tag) node!.state.branch = 'other';
      };
      expect(await policyOf([node!], { finality }).authorize('app', facts())).toMatchObject(
        denial('no of other'),
      );
    });
    test('and goes again is not decided at', async () => {
      const [node] = await nodes(mixed);
      turnAt(node!, tag, ['other']);
      expect(await policyOf([node!], { finality }).authorize('app', facts())).toMatchObject(
        denial('no of main'),
      );
    });
    test('at every reading: refused, after a bounded number of them', async () => {
      const [node] = await nodes({});
      let turns = 0;
      node!.state.before = (method, [which]) => {
        if (method !== 'eth_getBlockByNumber' || which !== tag) return;
        turns += 1;
        node!.state.branch = `branch ${turns}`;
      };
      expect(await policyOf([node!], { finality }).authorize('app', facts())).toMatchObject({
        allowed: false,
        failure: 'unavailable',
      });
      expect(node!.count('eth_call')).toBe(0);
      // Three readings; those by number ask for the finalized block twice.
      expect(turns).toBe(finality === 'finalized' ? 3 : 6);
    });
    test('of one endpoint: the others agree, and it has no say', async () => {
      const chains = await nodes(mixed, mixed, mixed);
      turnAt(chains[0]!, tag, ['other', 'other', 'other']);
      expect(await policyOf(chains, { finality }).authorize('app', facts())).toMatchObject(
        denial('no of main'),
      );
    });
  });
  test('a head that is finalized while it is read decides alone', async () => {
    const [node] = await nodes({});
    node!.state.before = (_, [which]) => {
      if (which !== 'finalized' || node!.state.head !== 100) return;
      Object.assign(node!.state, { head: 111, headTime: node!.state.headTime + 22 });
    };
    expect(await policyOf([node!], { finality: 'finalized' }).authorize('app', facts())).toMatchObject({
      allowed: true,
      blockNumber: 100n,
    });
  });
  test('endpoints that differ about finality settle on the older block', async () => {
    const chains = await nodes(
      { decide: since(91), head: 101, headTime: 1_000_002 },
      { decide: since(91), head: 101, headTime: 1_000_002 },
      { decide: since(91) },
    );
    expect((await policyOf(chains, { finality: 'finalized' }).authorize('app', facts())).allowed).toBe(true);
    expect(
      await policyOf(chains, { finality: 'finalized', quorum: 3 }).authorize('app', facts()),
    ).toMatchObject(denial('too early'));
  });
});
