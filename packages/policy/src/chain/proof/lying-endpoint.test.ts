/** lying-rpc, with proofs: an endpoint that lies about anything gets nobody a key, and is left for an honest one. */

import type { BootInfo } from '@dstack-cloud/attestation';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Decision } from '../../policy.ts';
import { type ChainLab, deployContracts, type LabContracts, startChainLab } from '../../test/chain-lab.ts';
import { facts, filled } from '../../test/facts.ts';
import {
  isProof,
  type LyingRelay,
  type Proof,
  type RelayedCall,
  startLyingRelay,
} from '../../test/lying-relay.ts';
import type { ChainPolicyOptions } from '../chain-options.ts';
import type { ChainPolicy } from '../chain-policy.ts';
import { bytesOf, hex } from './test/compare.ts';

const { composeHash, deviceId, osImageHash } = facts();
const revoked = filled(32, 0xe1);

let lab: ChainLab;
let relay: LyingRelay;
let contracts: LabContracts;
beforeAll(async () => {
  lab = await startChainLab();
  relay = await startLyingRelay(lab.url);
  contracts = await deployContracts(lab);
  const { kms, kmsAbi, app, appAbi } = contracts;
  await lab.send(kms, kmsAbi, 'addOsImageHash', [hex(osImageHash)]);
  await lab.send(kms, kmsAbi, 'registerApp', [app]);
  await lab.send(app, appAbi, 'addDevice', [hex(deviceId)]);
  await lab.send(app, appAbi, 'addComposeHash', [hex(composeHash)]);
  await lab.send(app, appAbi, 'addComposeHash', [hex(revoked)]);
  await lab.rpc('anvil_mine', '0x1');
  await lab.send(app, appAbi, 'removeComposeHash', [hex(revoked)]);
}, 60_000);
afterAll(async () => {
  await relay?.close();
  await lab?.stop();
});
beforeEach(() => {
  relay.lie = undefined;
  relay.take();
});

/** The head comes from an honest light client; everything else from the relay alone. A busy machine is no liar. */
const policyOf = (options: Partial<ChainPolicyOptions> = {}): ChainPolicy =>
  lab.policy(contracts.kms, {
    rpcUrls: [relay.url],
    lightClientUrl: lab.url,
    reads: 'proofs',
    endpointTimeoutMs: 30_000,
    totalTimeoutMs: 60_000,
    ...options,
  });
const good = (): BootInfo => facts({ appId: bytesOf(contracts.app) });
const bad = (): BootInfo => facts({ appId: bytesOf(contracts.app), composeHash: revoked });
const ask = (info: BootInfo, policy: ChainPolicy = policyOf()): Promise<Decision> =>
  policy.authorize('app', info);

test('without a lie the allowed is allowed and the revoked is not', async () => {
  expect(await ask(good())).toMatchObject({ allowed: true });
  expect(await ask(bad())).toMatchObject({ allowed: false, reason: 'Compose hash not allowed' });
});

test('what was proven at a block serves the next question there, and nothing serves at another block', async () => {
  const policy = policyOf();
  await ask(good(), policy);
  relay.take();
  await ask(bad(), policy);
  const second = relay.take();
  expect(second.map(({ method, params }) => [method, params[0]])).toEqual([
    ['eth_getProof', contracts.app.toLowerCase()],
  ]);
  // Whether the hash is allowed, and until when.
  expect((second[0]!.params[1] as unknown[]).length).toBe(2);
  await lab.rpc('anvil_mine', '0x1');
  await ask(bad(), policy);
  const methods = relay.take().map(({ method }) => method);
  expect(methods).toContain('eth_getBlockByHash');
  expect(methods).not.toContain('eth_getCode');
});

test('lies in eth_call buy keys only where calls are believed', async () => {
  const yes = `0x${'1'.padStart(64, '0')}${'40'.padStart(64, '0')}${'0'.repeat(64)}`;
  relay.lie = ({ method, result }) =>
    method === 'eth_call' && String(result).length > 130 ? yes : undefined;
  expect(await ask(bad(), policyOf({ reads: 'calls' }))).toMatchObject({ allowed: true });
  expect(await ask(bad())).toMatchObject({ allowed: false, reason: 'Compose hash not allowed' });
});

test('what a proof claims beside its nodes is not looked at', async () => {
  relay.lie = ({ method, result }) => {
    if (method !== 'eth_getProof') return undefined;
    const proof = result as Proof;
    for (const slot of proof.storageProof) slot.value = '0x1';
    return { ...proof, codeHash: `0x${'12'.repeat(32)}`, storageHash: `0x${'34'.repeat(32)}` };
  };
  expect(await ask(bad())).toMatchObject({ allowed: false, reason: 'Compose hash not allowed' });
  expect(await ask(good())).toMatchObject({ allowed: true });
});

test('any byte of any proof or header that is changed is found out', async () => {
  // First learn what is asked, then lie about one byte of it.
  await ask(good());
  const calls = relay.take().filter(({ method }) => /getProof|getBlockByHash|getCode/.test(method));
  expect(calls.length).toBeGreaterThan(4);
  const flip = (text: string, at: number): string => {
    const index = 2 + (at % Math.max(1, text.length - 2));
    const digit = (Number.parseInt(text[index] ?? '0', 16) ^ (1 + (at % 15))).toString(16);
    return `${text.slice(0, index)}${digit}${text.slice(index + 1)}`;
  };
  const changed = (value: unknown, at: number): unknown => {
    if (typeof value === 'string') return flip(value, at);
    if (Array.isArray(value))
      return value.length === 0
        ? value
        : value.with(at % value.length, changed(value[at % value.length], at >> 3));
    return value;
  };
  await fc.assert(
    fc.asyncProperty(fc.nat(calls.length - 1), fc.nat(), fc.boolean(), async (which, at, inStorage) => {
      let lied = false;
      relay.lie = ({ method, params, result }) => {
        const call = calls[which]!;
        if (method !== call.method || JSON.stringify(params) !== JSON.stringify(call.params))
          return undefined;
        const before = JSON.stringify(result);
        let after: unknown;
        if (method === 'eth_getCode') after = changed(result, at);
        else if (method === 'eth_getProof') {
          const proof = result as Proof;
          const part =
            inStorage && proof.storageProof.length > 0
              ? proof.storageProof[at % proof.storageProof.length]
              : undefined;
          if (part) part.proof = changed(part.proof, at) as string[];
          // An account that was proven at this block already is not looked at again.
          else if (calls.findIndex((one) => isProof(one) && one.params[0] === params[0]) === which)
            proof.accountProof = changed(proof.accountProof, at) as string[];
          after = proof;
        } else {
          const header = result as Record<string, unknown>;
          const names = Object.keys(header).filter(
            (name) => !/^(hash|totalDifficulty|size|uncles|transactions|withdrawals)$/.test(name),
          );
          const name = names[at % names.length]!;
          after = { ...header, [name]: changed(header[name], at) };
        }
        lied = JSON.stringify(after) !== before;
        return after;
      };
      for (const info of [good(), bad()]) {
        lied = false;
        const { allowed, failure } = await ask(info);
        if (lied) expect([allowed, failure]).toEqual([false, 'unavailable']);
      }
    }),
    { numRuns: 120 },
  );
}, 180_000);

describe('answers that were true elsewhere', () => {
  test('proofs from before the revocation', async () => {
    const head = Number(await lab.rpc<string>('eth_blockNumber'));
    for (let block = 1; block < head; block++) {
      const at = `0x${block.toString(16)}`;
      const proofs = new Map<string, unknown>();
      await ask(bad());
      for (const { method, params } of relay.take()) {
        const old = method === 'eth_getProof' ? [params[0], params[1], at] : undefined;
        if (old) proofs.set(JSON.stringify(params), await lab.rpc(method, ...old));
      }
      const header = await lab.rpc('eth_getBlockByNumber', at, false);
      relay.lie = ({ method, params }) =>
        proofs.get(JSON.stringify(params)) ?? (method === 'eth_getBlockByHash' ? header : undefined);
      expect((await ask(bad())).allowed).toBe(false);
      const { hash } = await lab.rpc<{ hash: string }>('eth_getBlockByNumber', 'latest', false);
      // The old header under the new hash, or the new header with the old root: neither has that hash.
      relay.lie = ({ method, params, result }) =>
        proofs.get(JSON.stringify(params)) ??
        (method === 'eth_getBlockByHash'
          ? { ...(result as object), hash, stateRoot: (header as { stateRoot: string }).stateRoot }
          : undefined);
      expect((await ask(bad())).allowed).toBe(false);
      relay.lie = undefined;
    }
  }, 90_000);

  test('proofs of other slots and other accounts', async () => {
    await ask(good());
    const truths = relay
      .take()
      .filter(isProof)
      .map(({ result }) => result as Proof);
    const storage = truths.flatMap(({ storageProof }) => storageProof);
    const accounts = truths.map(({ accountProof }) => accountProof);
    for (const part of storage) {
      relay.lie = (call) => {
        if (!isProof(call)) return undefined;
        const proof = call.result as Proof;
        return { ...proof, storageProof: proof.storageProof.map(() => part) };
      };
      expect((await ask(bad())).allowed).toBe(false);
    }
    for (const accountProof of accounts) {
      relay.lie = (call) => (isProof(call) ? { ...(call.result as Proof), accountProof } : undefined);
      expect((await ask(bad())).allowed).toBe(false);
    }
    relay.lie = (call) => (isProof(call) ? truths[0] : undefined);
    expect((await ask(bad())).allowed).toBe(false);
  });
});

describe('malformed answers', () => {
  test.each<[string, (call: RelayedCall) => unknown]>([
    ['null for a proof', (call) => (isProof(call) ? null : undefined)],
    ['a proof without nodes', (call) => (isProof(call) ? { accountProof: [], storageProof: [] } : undefined)],
    [
      'nodes that are no hex',
      (call) => (isProof(call) ? { ...(call.result as Proof), accountProof: ['0xzz'] } : undefined),
    ],
    [
      'a thousand nodes',
      (call) =>
        isProof(call) ? { ...(call.result as Proof), accountProof: Array(1_000).fill('0x80') } : undefined,
    ],
    [
      'one slot too few',
      (call) =>
        isProof(call)
          ? { ...(call.result as Proof), storageProof: (call.result as Proof).storageProof.slice(1) }
          : undefined,
    ],
    ['no header', ({ method }) => (method === 'eth_getBlockByHash' ? null : undefined)],
    ['an empty header', ({ method }) => (method === 'eth_getBlockByHash' ? {} : undefined)],
    ['no code', ({ method }) => (method === 'eth_getCode' ? '0x' : undefined)],
    ['code that is no hex', ({ method }) => (method === 'eth_getCode' ? 7 : undefined)],
  ])('%s', async (_, lie) => {
    relay.lie = lie;
    expect(await ask(good())).toMatchObject({ allowed: false, failure: 'unavailable' });
  });
});

test('a foreign implementation cannot be shown with the code of ours', async () => {
  const foreign = `0x${'ab'.repeat(20)}`;
  await lab.rpc('anvil_setCode', foreign, '0x60016000526040602052600060405260606000f3');
  const slot = '0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc';
  const snapshot = await lab.rpc('evm_snapshot');
  await lab.rpc('anvil_setStorageAt', contracts.app, slot, `0x${foreign.slice(2).padStart(64, '0')}`);
  await lab.rpc('anvil_mine', '0x1');
  expect(await ask(good())).toMatchObject({
    allowed: false,
    reason: expect.stringContaining('is not known'),
  });
  const ours = await lab.rpc('eth_getCode', contracts.appImplementation, 'latest');
  relay.lie = ({ method, params }) => (method === 'eth_getCode' && params[0] === foreign ? ours : undefined);
  expect(await ask(good())).toMatchObject({ allowed: false, failure: 'unavailable' });
  await lab.rpc('evm_revert', snapshot);
  await lab.rpc('anvil_mine', '0x1');
});

test('one honest endpoint is enough, wherever it stands, and the operator hears of the liar', async () => {
  relay.lie = (call) => (isProof(call) ? null : undefined);
  for (const rpcUrls of [
    [relay.url, lab.url],
    [lab.url, relay.url],
  ]) {
    const failed: string[] = [];
    const policy = policyOf({
      rpcUrls,
      onEvent: (event) => void (event.type === 'endpoint-failed' && failed.push(event.endpoint)),
    });
    expect(await ask(good(), policy)).toMatchObject({ allowed: true });
    expect(await ask(bad(), policy)).toMatchObject({ allowed: false, reason: 'Compose hash not allowed' });
    expect(new Set(failed)).toEqual(new Set(rpcUrls[0] === relay.url ? [relay.url] : []));
  }
});
