/** Proofs from several endpoints, from ones with other habits, and over a reorganisation. */

import type { BootInfo } from '@dstack-cloud/attestation';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type ChainLab, deployContracts, type LabContracts, startChainLab } from '../../test/chain-lab.ts';
import { facts, filled } from '../../test/facts.ts';
import { isProof, type LyingRelay, Refusal, startLyingRelay } from '../../test/lying-relay.ts';
import type { ChainPolicyOptions } from '../chain-options.ts';
import type { ChainPolicy } from '../chain-policy.ts';
import { bytesOf, hex } from './test/compare.ts';

const { composeHash, deviceId, osImageHash } = facts();

let lab: ChainLab;
let contracts: LabContracts;
let relays: LyingRelay[];
beforeAll(async () => {
  lab = await startChainLab();
  relays = await Promise.all([1, 2, 3].map(() => startLyingRelay(lab.url)));
  contracts = await deployContracts(lab);
  const { kms, kmsAbi, app, appAbi } = contracts;
  await lab.send(kms, kmsAbi, 'addOsImageHash', [hex(osImageHash)]);
  await lab.send(kms, kmsAbi, 'registerApp', [app]);
  await lab.send(app, appAbi, 'addDevice', [hex(deviceId)]);
  await lab.send(app, appAbi, 'addComposeHash', [hex(composeHash)]);
}, 60_000);
afterEach(() => {
  for (const relay of relays) {
    relay.lie = undefined;
    relay.take();
  }
});
afterAll(async () => {
  await Promise.all((relays ?? []).map((relay) => relay.close()));
  await lab?.stop();
});

const policyOf = (urls: readonly string[], options: Partial<ChainPolicyOptions> = {}): ChainPolicy =>
  lab.policy(contracts.kms, { rpcUrls: urls, reads: 'proofs', ...options });
const good = (): BootInfo => facts({ appId: bytesOf(contracts.app) });
const bad = (): BootInfo => ({ ...good(), composeHash: filled(32, 0xbb) });

test('lying-rpc: one of three that agree on the head gives nobody a key and takes none away', async () => {
  const urls = relays.map(({ url }) => url);
  for (const liar of relays) {
    const other = `0x${'77'.repeat(32)}`;
    const lies: LyingRelay['lie'][] = [
      (call) => (isProof(call) ? null : undefined),
      // Another chain of its own, whole with proofs.
      ({ method, result }) =>
        method.startsWith('eth_getBlock')
          ? { ...(result as object), hash: other, stateRoot: other }
          : undefined,
      ({ method, result }) =>
        method === 'eth_getBlockByNumber' ? { ...(result as object), stateRoot: other } : undefined,
      () => new Refusal(-32_000),
    ];
    for (const lie of lies) {
      liar.lie = lie;
      const policy = policyOf(urls);
      expect(await policy.authorize('app', good())).toMatchObject({ allowed: true });
      expect(await policy.authorize('app', bad())).toMatchObject({ reason: 'Compose hash not allowed' });
    }
    liar.lie = undefined;
  }
});

test('a node that takes no block hash is asked by number, and remembered', async () => {
  const [relay] = relays as [LyingRelay];
  const byHash = (params: readonly unknown[]): boolean => typeof params.at(-1) === 'object';
  relay.lie = ({ method, params }) =>
    /getProof|getCode/.test(method) && byHash(params) ? new Refusal(-32_602) : undefined;
  const policy = policyOf([relay.url]);
  expect(await policy.authorize('app', good())).toMatchObject({ allowed: true });
  relay.take();
  await lab.rpc('anvil_mine', '0x1');
  expect(await policy.authorize('app', good())).toMatchObject({ allowed: true });
  const proofs = relay.take().filter(isProof);
  expect(proofs.length).toBeGreaterThan(0);
  for (const { params } of proofs) expect(params.at(-1)).toMatch(/^0x[0-9a-f]+$/);
});

test('a node that forgets how to prove allows nothing, and is asked again', async () => {
  const [relay] = relays as [LyingRelay];
  const policy = policyOf([relay.url]);
  relay.lie = ({ method }) => (method === 'eth_getProof' ? new Refusal(-32_601) : undefined);
  expect(await policy.authorize('app', good())).toMatchObject({ allowed: false, failure: 'unavailable' });
  relay.lie = undefined;
  expect(await policy.authorize('app', good())).toMatchObject({ allowed: true });
});

test('what a reorganisation takes away is not allowed by what was proven before', async () => {
  const policy = policyOf([lab.url]);
  const snapshot = await lab.rpc('evm_snapshot');
  await lab.send(contracts.app, contracts.appAbi, 'addComposeHash', [hex(bad().composeHash)]);
  expect(await policy.authorize('app', bad())).toMatchObject({ allowed: true });
  await lab.rpc('evm_revert', snapshot);
  await lab.rpc('anvil_mine', '0x2');
  expect(await policy.authorize('app', bad())).toMatchObject({ reason: 'Compose hash not allowed' });
});

test('a permission must hold at the finalized block too', async () => {
  const policy = policyOf([lab.url], { finality: 2 });
  const { app, appAbi } = contracts;
  const late = { ...good(), composeHash: filled(32, 0xcc) };
  await lab.send(app, appAbi, 'addComposeHash', [hex(late.composeHash)]);
  expect(await policy.authorize('app', late)).toMatchObject({ reason: 'Compose hash not allowed' });
  await lab.rpc('anvil_mine', '0x2');
  expect(await policy.authorize('app', late)).toMatchObject({ allowed: true });
  await lab.send(app, appAbi, 'removeComposeHash', [hex(late.composeHash)]);
  expect(await policy.authorize('app', late)).toMatchObject({ reason: 'Compose hash not allowed' });
});

test('permissions that are revalidated at a new head are proven there again', async () => {
  const policy = policyOf([lab.url], { headReuseMs: 10_000 });
  const { app, appAbi } = contracts;
  for (let round = 0; round < 3; round++) {
    expect(await policy.authorize('app', good())).toMatchObject({ allowed: true });
    await lab.send(app, appAbi, 'removeComposeHash', [hex(composeHash)]);
    await expect
      .poll(() => policy.authorize('app', good()), { timeout: 12_000, interval: 20 })
      .toMatchObject({ allowed: false, reason: 'Compose hash not allowed' });
    await lab.send(app, appAbi, 'addComposeHash', [hex(composeHash)]);
  }
});
