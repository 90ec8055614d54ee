/** Revalidation on a real node: our contracts, which count, those of the 0.6 line, which do not, and hostile ones among them. */

import type { BootInfo } from '@dstack-cloud/attestation';
import {
  type Anvil,
  addComposeHash,
  addOsImageHash,
  buildContracts,
  type ChainClient,
  connectChain,
  deployApp,
  deployKms,
  dstackAppAbi,
  dstackKmsAbi,
  registerApp,
  removeComposeHash,
  removeOsImageHash,
  startAnvil,
  transact,
} from '@dstack-cloud/contracts';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import type { Address, Hex } from 'viem';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { facts } from '../../test/facts.ts';
import { startLyingRelay } from '../../test/lying-relay.ts';
import type { Reads } from '../chain-options.ts';
import { type ChainPolicy, chainPolicy } from '../chain-policy.ts';

const hex = (bytes: Uint8Array): Hex => `0x${toHex(bytes)}`;
const { osImageHash, composeHash } = facts();
const factsOf = (app: Address): BootInfo => facts({ appId: fromHex(app, { prefix: 'allow' }) });

let anvil: Anvil;
let client: ChainClient;
beforeAll(async () => {
  await buildContracts();
  anvil = await startAnvil();
  const [account] = anvil.accounts;
  client = await connectChain({
    ...{ rpcUrl: anvil.rpcUrl, pollingIntervalMs: 5 },
    privateKey: account!.privateKey,
  });
}, 60_000);
afterAll(() => anvil?.stop());

const raw = (method: string, ...params: unknown[]): Promise<unknown> =>
  (client.public.request as (request: object) => Promise<unknown>)({ method, params });

type Asking = { policy: ChainPolicy; askAll(): Promise<boolean[]>; next(): Promise<boolean[]> };
async function asking(
  kms: Address,
  apps: readonly Address[],
  work: (it: Asking) => Promise<void>,
  reads: Reads = 'calls',
  rpcUrl = anvil.rpcUrl,
): Promise<void> {
  const policy = chainPolicy({
    reads,
    ...{ rpcUrls: [rpcUrl], kmsContract: kms, headReuseMs: 5_000 },
    // Some tests set the chain's clock forward.
    maxClockSkewSeconds: 100_000,
  });
  const infos = apps.map(factsOf);
  const ask = (info: BootInfo) => policy.authorize('app', info);
  const askAll = async (): Promise<boolean[]> =>
    (await Promise.all(infos.map(ask))).map(({ allowed }) => allowed);
  /** Mines, and asks once requests see that block. */
  const next = async (): Promise<boolean[]> => {
    await raw('evm_mine');
    const head = await client.public.getBlockNumber({ cacheTime: 0 });
    await vi.waitFor(async () => expect((await ask(infos[0]!)).blockNumber).toBe(head), {
      ...{ timeout: 5_000, interval: 10 },
    });
    return await askAll();
  };
  try {
    await work({ policy, askAll, next });
  } finally {
    policy.close?.();
  }
}

const POLICY_EPOCH = 'a921d322';
const IS_APP_ALLOWED = `1e079198${'20'.padStart(64, '0')}`;

describe('contracts that count', () => {
  test.each(['calls', 'proofs'] as const)(
    'are followed, and what they changed is seen: %s',
    async (reads) => {
      const { kms } = await deployKms({ client });
      await addOsImageHash(client, kms, hex(osImageHash));
      const deploy = async (): Promise<Address> =>
        (await deployApp({ client, kms, allowAnyDevice: true, composeHash: hex(composeHash) })).appId;
      const apps = [await deploy(), await deploy()] as const;
      const onApp = (name: string, ...args: unknown[]) =>
        transact(client, apps[1], dstackAppAbi, name, [hex(composeHash), ...args]);
      await asking(
        kms,
        apps,
        async ({ policy, askAll, next }) => {
          expect(await askAll()).toEqual([true, true]);
          const { misses } = policy.status().decisions;
          for (let block = 0; block < 4; block++) expect(await next()).toEqual([true, true]);
          expect(policy.status().decisions.misses).toBe(misses);

          await onApp('removeComposeHash');
          expect(await next()).toEqual([true, false]);
          const { timestamp } = await client.public.getBlock();
          await onApp('addComposeHashUntil', timestamp + 100n);
          for (let block = 0; block < 3; block++) expect(await next()).toEqual([true, true]);
          await raw('evm_increaseTime', 200);
          expect(await next()).toEqual([true, false]);
          await onApp('addComposeHash');
          expect(await next()).toEqual([true, true]);
          for (const [on, off] of [
            [
              ['pause', []],
              ['unpause', []],
            ],
            [
              ['denyAdvisory', [facts().advisoryIds[0]]],
              ['allowAdvisory', [facts().advisoryIds[0]]],
            ],
            [
              ['removeOsImageHash', [hex(osImageHash)]],
              ['addOsImageHash', [hex(osImageHash)]],
            ],
          ] as const) {
            await transact(client, kms, dstackKmsAbi, on[0], on[1]);
            await vi.waitFor(async () => expect(await askAll()).toEqual([false, false]), { timeout: 6_000 });
            await transact(client, kms, dstackKmsAbi, off[0], off[1]);
            await vi.waitFor(async () => expect(await askAll()).toEqual([true, true]), { timeout: 6_000 });
          }
          await transact(client, kms, dstackKmsAbi, 'blockApp', [apps[0]]);
          await vi.waitFor(async () => expect(await askAll()).toEqual([false, true]), { timeout: 6_000 });
        },
        reads,
      );
    },
    60_000,
  );

  test('are asked for their counters alone while nothing changes', async () => {
    const { kms } = await deployKms({ client });
    await addOsImageHash(client, kms, hex(osImageHash));
    const { appId } = await deployApp({
      ...{ client, kms, allowAnyDevice: true },
      composeHash: hex(composeHash),
    });
    const relay = await startLyingRelay(anvil.rpcUrl);
    try {
      await asking(
        kms,
        [appId],
        async ({ askAll, next }) => {
          expect(await askAll()).toEqual([true]);
          // The first block is read whole, for the counters to start from.
          expect(await next()).toEqual([true]);
          relay.take();
          expect(await next()).toEqual([true]);
          const calls = JSON.stringify(relay.take());
          expect(calls).toContain(POLICY_EPOCH);
          expect(calls).not.toContain(IS_APP_ALLOWED);
        },
        'calls',
        relay.url,
      );
    } finally {
      await relay.close();
    }
  }, 60_000);
});

describe('contracts of the 0.6 line', () => {
  test('are read again, and hostile apps harm nobody but themselves', async () => {
    const { kms } = await deployKms({ client, release: '0.6' });
    await addOsImageHash(client, kms, hex(osImageHash));
    const honest = await Promise.all(
      Array.from({ length: 30 }, async () => {
        return (await deployApp({ client, kms, allowAnyDevice: true, composeHash: hex(composeHash) })).appId;
      }),
    );
    // They answer (true, "") at first. One goes on, one burns its gas, one returns 4 MB, one says true and a reason.
    const good = '0x6001600052604060205260606000f3';
    const turned = [good, '0x5b600056', '0x624000006000f3', '0x60016000526040602052600160405260806000f3'];
    const hostile = turned.map((_, index): Address => `0x${(0xbad0 + index).toString(16).padStart(40, '0')}`);
    for (const app of hostile) {
      await raw('anvil_setCode', app, good);
      await registerApp(client, kms, app);
    }
    const count = honest.length + hostile.length;
    await asking(kms, [...honest, ...hostile], async ({ policy, askAll, next }) => {
      expect(await askAll()).toEqual(Array.from({ length: count }, () => true));
      expect(await next()).toEqual(Array.from({ length: count }, () => true));
      for (const [index, app] of hostile.entries()) await raw('anvil_setCode', app, turned[index]);
      const { misses } = policy.status().decisions;
      const answers = await next();
      expect(answers.slice(0, honest.length)).toEqual(honest.map(() => true));
      expect(answers.slice(honest.length, -1)).toEqual([true, false, false]);
      // Only those that turned were asked for again.
      expect(policy.status().decisions.misses - misses).toBeLessThanOrEqual(3);

      await removeComposeHash(client, honest[7]!, hex(composeHash));
      expect((await next())[7]).toBe(false);
      await addComposeHash(client, honest[7]!, hex(composeHash));
      expect((await next())[7]).toBe(true);
      await removeOsImageHash(client, kms, hex(osImageHash));
      await vi.waitFor(async () => expect(new Set(await askAll())).toEqual(new Set([false])), {
        timeout: 6_000,
      });
    });
  }, 60_000);

  test('are proven again where proofs are asked for', async () => {
    const { kms } = await deployKms({ client, release: '0.6' });
    await addOsImageHash(client, kms, hex(osImageHash));
    const deploy = async (): Promise<Address> =>
      (await deployApp({ client, kms, allowAnyDevice: true, composeHash: hex(composeHash) })).appId;
    const apps = [await deploy(), await deploy(), await deploy()];
    await asking(
      kms,
      apps,
      async ({ policy, askAll, next }) => {
        expect(await askAll()).toEqual([true, true, true]);
        const { misses } = policy.status().decisions;
        for (let block = 0; block < 3; block++) expect(await next()).toEqual([true, true, true]);
        expect(policy.status().decisions.misses).toBe(misses);
        await removeComposeHash(client, apps[1]!, hex(composeHash));
        expect(await next()).toEqual([true, false, true]);
      },
      'proofs',
    );
  }, 60_000);
});
