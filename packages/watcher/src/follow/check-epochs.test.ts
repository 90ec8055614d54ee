/** Contracts that count more changes than their events tell are found, however many contracts there are. */
import type { Block, ChainSnapshot } from '@dstack-cloud/policy/following';
import type { Hex } from 'viem';
import { expect, test } from 'vitest';
import type { ChainReader } from '../chain/chain-reader.ts';
import { GovernanceModel } from '../model/governance-model.ts';
import type { Source } from '../state/watch-state.ts';
import { numberedApp } from '../test/fake-node.ts';
import { checkEpochs, MAX_ASKED } from './check-epochs.ts';

const KMS: Hex = `0x${'ee'.repeat(20)}`;
const APPS = Array.from({ length: 3 * MAX_ASKED }, (_, index) => numberedApp(index + 1));
const source = (kind: Source['kind']): Source => ({
  kind,
  next: 1,
  alertsFrom: 1,
  listed: true,
  epochOffset: 0,
});
/** As the configuration lists them: the KMS comes last. */
const sources = Object.fromEntries([
  ...APPS.map((address) => [address, source('app')] as const),
  [KMS, source('kms')] as const,
]);

/** Of a chain on which one contract says that its policy changed once, and no event tells of it. */
async function check(changed: Hex, number: number): ReturnType<typeof checkEpochs> {
  const hash: Hex = `0x${(BigInt(number) * 0x9e3779b97f4a7c15f39cc0605cedc835n).toString(16).padStart(64, '0')}`;
  const block = { number: BigInt(number), hash, timestamp: number } as Block;
  let asked = 0;
  const reader = {
    calls: async (_: unknown, __: unknown, calls: readonly { to: Hex }[]) => {
      asked += calls.length;
      return calls.map(({ to }) => `0x${(to === changed ? '1' : '0').padStart(64, '0')}`);
    },
  } as unknown as ChainReader;
  const addresses = [...APPS, KMS];
  const known = { block, addresses, sources, model: new GovernanceModel(), added: [] };
  const result = await checkEpochs(reader, {} as ChainSnapshot, known);
  expect(asked).toBe(MAX_ASKED);
  return result;
}

test('a change that the KMS counts and no event tells is found beside any number of apps', async () => {
  for (let number = 1; number <= 20; number += 1)
    await expect(check(KMS, number)).rejects.toMatchObject({ code: 'events-missing' });
});

test('of more apps than are asked at once each is asked before long, and keeps its count until then', async () => {
  for (const app of [APPS[0]!, APPS[75]!, APPS.at(-1)!]) {
    let found: number | undefined;
    for (let number = 1; number <= 100 && found === undefined; number += 1) {
      const { alerts, offsets, verified } = await check(app, number);
      expect(verified).toBe(true);
      expect(offsets.size).toBe(APPS.length + 1);
      if (alerts.length > 0) found = offsets.get(app);
      else expect(offsets.get(app)).toBe(0);
    }
    expect(found).toBe(1);
  }
});
