import {
  type Anvil,
  buildContracts,
  type ChainClient,
  connectChain,
  deployApp,
  deployKms,
  startAnvil,
} from '@dstack-cloud/contracts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readContractState } from './read-contract-state.ts';

let anvil: Anvil;
let owner: ChainClient;
beforeAll(async () => {
  await buildContracts();
  anvil = await startAnvil();
  owner = await connectChain({
    rpcUrl: anvil.rpcUrl,
    privateKey: anvil.accounts[0]!.privateKey,
    pollingIntervalMs: 10,
  });
}, 180_000);
afterAll(async () => {
  await anvil?.stop();
});

test.each(['0.6', undefined] as const)(
  'flags that the initializer of an app set (release %s)',
  async (release) => {
    const made = { client: owner, ...(release && { release }) };
    const { kms } = await deployKms(made);
    for (const allowAnyDevice of [false, true]) {
      for (const disableUpgrades of [false, true]) {
        const { appId, blockNumber } = await deployApp({
          client: owner,
          kms,
          allowAnyDevice,
          disableUpgrades,
        });
        expect(await readContractState(owner.public, 'app', appId, blockNumber, 0n)).toMatchObject({
          ...{ allowAnyDevice, upgradesDisabled: disableUpgrades },
        });
      }
    }
  },
  60_000,
);
