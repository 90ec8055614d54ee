/** RPC endpoints as they are served: each habit by itself, with one endpoint and nobody to help out. */
import { afterEach, describe, expect, test } from 'vitest';
import { facts } from '../test/facts.ts';
import { type FakeState, fakeState } from '../test/fake-chain.ts';
import {
  batchHabits,
  deaths,
  type Habits,
  hashErrors,
  type OddEndpoint,
  reverts,
  startOddEndpoint,
} from '../test/odd-endpoint.ts';
import type { ChainEvent } from './chain-event.ts';
import { type ChainPolicy, chainPolicy } from './chain-policy.ts';

const NOW = 1_000_003;
const LIMIT_MS = 8_000;

const open: { close(): unknown }[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.close()));
});

type Setting = {
  readonly state: FakeState;
  readonly endpoint: OddEndpoint;
  readonly policy: ChainPolicy;
  readonly events: ChainEvent[];
};

async function setting(habits: Partial<Habits>, changes: Partial<FakeState> = {}): Promise<Setting> {
  const state = fakeState(changes);
  const endpoint = await startOddEndpoint(state, habits);
  const events: ChainEvent[] = [];
  const policy = chainPolicy({
    rpcUrls: [endpoint.url],
    kmsContract: `0x${'ab'.repeat(20)}`,
    chainId: 31_337,
    now: () => NOW,
    endpointTimeoutMs: 400,
    onEvent: (event) => void events.push(event),
  });
  open.push(endpoint, { close: () => policy.close?.() });
  return { state, endpoint, policy, events };
}

const denies = (reason: string) => () => ({ allowed: false, reason });

/** A permission, a denial and a revert, each at a block of its own. */
async function decidesRightly({ state, policy }: Setting): Promise<void> {
  expect(await policy.authorize('app', facts())).toEqual({
    allowed: true,
    reason: '',
    gatewayAppId: 'gateway',
    blockNumber: BigInt(state.head),
  });
  Object.assign(state, { head: state.head + 1, decide: denies('Compose hash not allowed') });
  expect(await policy.authorize('app', facts())).toEqual({
    allowed: false,
    reason: 'Compose hash not allowed',
    gatewayAppId: 'gateway',
    blockNumber: BigInt(state.head),
  });
  Object.assign(state, { head: state.head + 1, decide: () => 'revert' });
  const decision = await policy.authorize('app', facts());
  expect(decision).toMatchObject({ allowed: false, blockNumber: BigInt(state.head) });
  expect(decision.reason).toMatch(/^App authorization call failed/);
  expect(decision.failure).toBeUndefined();
  expect(await policy.describe()).toMatchObject({ gatewayAppId: 'gateway', chainId: 31_337 });
}

describe('batches', () => {
  test.each(batchHabits)('%s', async (batches) => {
    const world = await setting({ batches });
    await decidesRightly(world);
    const { endpoint, policy, events } = world;
    const lacks = events.filter(({ type }) => type === 'endpoint-lacks');
    if (batches.startsWith('taken')) {
      expect(lacks).toEqual([]);
      return;
    }
    // Remembered: no other batch was tried, also not for another question, and the operator was told once.
    expect(endpoint.batches()).toBe(1);
    await policy.authorize('kms', facts());
    expect(endpoint.batches()).toBe(1);
    expect(lacks).toEqual([
      { type: 'endpoint-lacks', endpoint: endpoint.url, what: expect.stringContaining('batches') },
    ]);
  });

  test('an endpoint that is down is not taken for one without batches, nor asked for each call', async () => {
    const { endpoint, policy, state } = await setting({ death: 'status 503' });
    expect(await policy.authorize('app', facts())).toMatchObject({ allowed: false, failure: 'unavailable' });
    const asked = endpoint.seen.length;
    expect(asked).toBeLessThan(6);
    endpoint.habits = { ...endpoint.habits, death: undefined };
    state.head += 1;
    expect(await policy.authorize('app', facts())).toMatchObject({ allowed: true });
    expect(endpoint.seen.length - asked).toBe(2);
  });
});

describe('block hashes', () => {
  test.each(hashErrors)('refused with $code: $message', async (hashError) => {
    const world = await setting({ hashError });
    await decidesRightly(world);
    const asked = world.endpoint.hashCalls();
    world.state.head += 1;
    await world.policy.authorize('app', facts());
    expect(world.endpoint.hashCalls()).toBe(asked);
  });

  test.each(hashErrors)('refused with $code, and batches too', async (hashError) => {
    await decidesRightly(await setting({ hashError, batches: 'status 413', errorStatus: 400 }));
  });

  test('a reorganisation after calls by number is not overlooked, without batches either', async () => {
    const world = await setting({ hashError: hashErrors[0], batches: 'status 413' });
    await decidesRightly(world);
    const { state, policy } = world;
    Object.assign(state, { head: state.head + 1, decide: () => ({ allowed: true, reason: '' }) });
    let blocks = 0;
    state.before = (method, [which]) => {
      if (method !== 'eth_getBlockByNumber' || which === 'latest') return;
      blocks += 1;
      // The first look shows the block that was agreed upon, the second one another.
      if (blocks === 2) Object.assign(state, { branch: 'other', decide: denies('on the other branch') });
    };
    expect(await policy.authorize('app', facts())).toMatchObject({ reason: 'on the other branch' });
    expect(blocks).toBeGreaterThan(1);
  });
});

describe('errors', () => {
  test('"error": null beside a result', async () => {
    await decidesRightly(await setting({ errorNull: true }));
    await decidesRightly(await setting({ errorNull: true, batches: 'status 400' }));
  });

  test.each(reverts)('a revert as $error.code, $error.message', async ({ error, says }) => {
    for (const errorStatus of [200, 500] as const) {
      const { policy } = await setting(
        { revert: error, errorStatus, batches: errorStatus === 200 ? 'taken' : 'dropped' },
        { decide: () => 'revert' },
      );
      expect(await policy.authorize('app', facts())).toEqual({
        allowed: false,
        reason: `App authorization call failed${says && `: ${says}`}`,
        gatewayAppId: 'gateway',
        blockNumber: 100n,
      });
    }
  });

  test('of the node are an outage', async () => {
    const errors: Habits['revert'][] = [
      { code: -32_000, message: 'header not found' },
      { code: -32_603, message: 'Internal error' },
      { code: -32_000, message: 'execution aborted (timeout = 5s)' },
      { code: -32_015, message: 'VM execution error.', data: 'Timeout' },
      { code: -32_002, message: 'resource unavailable', data: { hash: `0x${'12'.repeat(32)}` } },
    ];
    const outage = async (error: Habits['revert']): Promise<void> => {
      const { policy, events } = await setting({ revert: error }, { decide: () => 'revert' });
      expect(await policy.authorize('app', facts()), error.message).toEqual({
        allowed: false,
        reason: 'authorization backend unavailable',
        gatewayAppId: '',
        failure: 'unavailable',
      });
      const undecided = events.find(({ type }) => type === 'undecided');
      const message = expect.stringContaining(error.message.slice(0, 10));
      expect(undecided).toMatchObject({ failure: 'unavailable', times: 1, message });
    };
    await Promise.all(errors.map(outage));
  });

  test('what a contract says of batches, limits and time-outs is what a contract says', async () => {
    for (const said of ['batch refused', 'rate limit exceeded', 'aborted after a timeout']) {
      const error = { code: 3, message: `execution reverted: ${said}` };
      const { policy } = await setting({ revert: error }, { decide: () => 'revert' });
      expect(await policy.authorize('app', facts())).toMatchObject({
        reason: `App authorization call failed: ${said}`,
      });
    }
  });
});

describe('a backend that is behind', () => {
  const blocks = { head: 100, headTime: 1_000_000 };
  const allowedUntil: FakeState['decide'] = (block) =>
    block < 100 ? { allowed: true, reason: '' } : { allowed: false, reason: 'revoked' };

  test.each<Partial<Habits>>([
    {},
    { splits: true },
    { batches: 'status 413' },
    { batches: 'dropped', hashError: hashErrors[0] },
    { hashError: hashErrors[3] },
  ])('is not believed into what was revoked: %o', async (habits) => {
    const { policy, state } = await setting({ behind: 3, ...habits }, { ...blocks, decide: allowedUntil });
    // The balancer decides whose head is seen first; from the first look at block 100 on, it stays revoked.
    let seen = false;
    for (let time = 0; time < 8; time++) {
      const decision = await policy.authorize('app', facts());
      if (decision.reason === 'revoked') seen = true;
      if (seen) expect(decision).toMatchObject({ allowed: false });
      state.headTime += 0.1;
    }
    expect(seen).toBe(true);
  });

  test.each<Partial<Habits>>([{}, { splits: true }, { batches: 'status 400' }, { hashError: hashErrors[0] }])(
    'is got round, so that what is allowed is: %o',
    async (habits) => {
      const { policy, state } = await setting({ behind: 1, ...habits }, blocks);
      let failures = 0;
      for (let time = 0; time < 10; time++) {
        if (!(await policy.authorize('app', facts())).allowed) failures += 1;
        state.head += 1;
        state.headTime += 2;
      }
      expect(failures).toBe(0);
    },
  );
});

test('a rate limit that hits a part of a batch is waited for', async () => {
  const { policy } = await setting({ limits: true });
  expect(await policy.authorize('app', facts())).toMatchObject({ allowed: true });
});

test.each(deaths)('an endpoint that %s is an outage, told in time', async (death) => {
  const { policy, events } = await setting({ death });
  const began = performance.now();
  expect(await policy.authorize('app', facts())).toMatchObject({
    reason: 'authorization backend unavailable',
    failure: 'unavailable',
  });
  expect(performance.now() - began).toBeLessThan(LIMIT_MS);
  expect(events.map(({ type }) => type)).toEqual(expect.arrayContaining(['endpoint-failed', 'undecided']));
});

test('the operator hears of an outage now and then, not for each request', async () => {
  const { policy, events } = await setting({ death: 'status 503' });
  await Promise.all(Array.from({ length: 200 }, () => policy.authorize('app', facts())));
  for (let time = 0; time < 50; time++) await policy.authorize('app', facts());
  expect(events.length).toBeLessThan(5);
});
