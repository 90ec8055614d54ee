/** What only the owner may do, what may happen only once, and who may upgrade. */
import { type Abi, type Address, encodeFunctionData, type Hex, zeroAddress, zeroHash } from 'viem';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dstackAppAbi } from '../abi/dstack-app.ts';
import { dstackKmsAbi } from '../abi/dstack-kms.ts';
import type { ChainClient } from '../chain-client.ts';
import { deployApp, deployAppImplementation, deployKmsImplementation } from '../deploy.ts';
import { addComposeHash, addOsImageHash, readKmsInfo, setKmsInfo } from '../manage.ts';
import { transact } from '../transact.ts';
import { repeated, startTestChain, type TestChain } from './test-chain.ts';

let chain: TestChain;
beforeAll(async () => {
  chain = await startTestChain();
});
afterAll(() => chain?.anvil.stop());

const call = (
  client: ChainClient,
  address: Address,
  abi: Abi | typeof dstackKmsAbi | typeof dstackAppAbi,
  functionName: string,
  args: readonly unknown[],
): Promise<unknown> =>
  client.public.simulateContract({ address, abi: abi as Abi, functionName, args, account: client.account });

const value = repeated('55', 32);
const info = { k256Pubkey: '0x01', caPubkey: '0x02', quote: '0x03', eventlog: '0x04' } as const;

describe('owner only', () => {
  const kmsCalls: [string, unknown[]][] = [
    ['setKmsInfo', [info]],
    ['setKmsQuote', ['0x01']],
    ['setKmsEventlog', ['0x01']],
    ['setGatewayAppId', ['any']],
    ['setAppImplementation', [repeated('55', 20)]],
    ['addKmsAggregatedMr', [value]],
    ['removeKmsAggregatedMr', [value]],
    ['addKmsDevice', [value]],
    ['removeKmsDevice', [value]],
    ['addOsImageHash', [value]],
    ['removeOsImageHash', [value]],
    ['transferOwnership', [repeated('55', 20)]],
    ['upgradeToAndCall', [repeated('55', 20), '0x']],
  ];
  const appCalls: [string, unknown[]][] = [
    ['addComposeHash', [value]],
    ['removeComposeHash', [value]],
    ['addDevice', [value]],
    ['removeDevice', [value]],
    ['setAllowAnyDevice', [true]],
    ['disableUpgrades', []],
    ['transferOwnership', [repeated('55', 20)]],
    ['upgradeToAndCall', [repeated('55', 20), '0x']],
  ];
  // Guardians may take away, so that error says so.
  const errorOf = (name: string): string =>
    name.startsWith('remove') ? 'NotOwnerOrGuardian' : 'OwnableUnauthorizedAccount';
  test.each(kmsCalls)('DstackKms.%s', async (name, args) => {
    await expect(call(chain.stranger, chain.kms, dstackKmsAbi, name, args)).rejects.toThrow(errorOf(name));
  });
  test.each(appCalls)('DstackApp.%s', async (name, args) => {
    await expect(call(chain.stranger, chain.app, dstackAppAbi, name, args)).rejects.toThrow(errorOf(name));
  });
});

describe('initialize', () => {
  const kmsArgs = (owner: Hex): unknown[] => [owner, zeroAddress];
  const appArgs = (owner: Hex): unknown[] => [owner, false, false, zeroHash, zeroHash];
  const someone = repeated('55', 20);

  test('never again on a proxy, never on an implementation', async () => {
    const { appImplementation, kmsImplementation } = chain.deployment;
    for (const [address, abi, args] of [
      [chain.kms, dstackKmsAbi, kmsArgs(someone)],
      [kmsImplementation, dstackKmsAbi, kmsArgs(someone)],
      [chain.app, dstackAppAbi, appArgs(someone)],
      [appImplementation as Hex, dstackAppAbi, appArgs(someone)],
    ] as const) {
      await expect(call(chain.owner, address, abi, 'initialize', args)).rejects.toThrow(
        'InvalidInitialization',
      );
    }
  });
  test('an owner is needed', async () => {
    const slot = `0x${'f0c57e16840df040f15088dc2f81fe391c3923bec73e23a9662efc9c229c6a00'}`;
    for (const [address, abi, args, error] of [
      [chain.kms, dstackKmsAbi, kmsArgs(zeroAddress), 'OwnableInvalidOwner'],
      [chain.app, dstackAppAbi, appArgs(zeroAddress), 'invalid owner address'],
    ] as const) {
      // A proxy whose "already initialized" mark is taken away for one simulated call.
      const simulated = chain.owner.public.simulateContract({
        address,
        abi: abi as Abi,
        functionName: 'initialize',
        args,
        stateOverride: [{ address, stateDiff: [{ slot: slot as Hex, value: zeroHash }] }],
      });
      await expect(simulated).rejects.toThrow(error);
    }
  });
});

describe('refused values', () => {
  test('ownership to nobody', async () => {
    await expect(
      call(chain.owner, chain.kms, dstackKmsAbi, 'transferOwnership', [zeroAddress]),
    ).rejects.toThrow('OwnableInvalidOwner');
  });
  test('app implementation zero', async () => {
    await expect(
      call(chain.owner, chain.kms, dstackKmsAbi, 'setAppImplementation', [zeroAddress]),
    ).rejects.toThrow('Invalid implementation address');
  });
  test('our helpers refuse a measurement of wrong length', () => {
    expect(() => addOsImageHash(chain.owner, chain.kms, '0x1234')).toThrow(
      expect.objectContaining({ code: 'bad-argument' }),
    );
  });
});

test('ownership moves in one step', async () => {
  const { appId } = await deployApp({ client: chain.owner, kms: chain.kms });
  await transact(chain.owner, appId, dstackAppAbi, 'transferOwnership', [chain.stranger.account.address]);
  await addComposeHash(chain.stranger, appId, value);
  await expect(call(chain.owner, appId, dstackAppAbi, 'addComposeHash', [value])).rejects.toThrow(
    'OwnableUnauthorizedAccount',
  );
});

test('kmsInfo keeps all four parts; quote and event log change alone', async () => {
  await setKmsInfo(chain.owner, chain.kms, info);
  await transact(chain.owner, chain.kms, dstackKmsAbi, 'setKmsQuote', ['0x0303']);
  await transact(chain.owner, chain.kms, dstackKmsAbi, 'setKmsEventlog', ['0x0404']);
  expect(await readKmsInfo(chain.owner, chain.kms)).toEqual({ ...info, quote: '0x0303', eventlog: '0x0404' });
});

describe('ERC-165', () => {
  test.each([
    ['01ffc9a7', true, true],
    ['1e079198', true, true],
    ['8fd37527', false, true],
    ['a921d322', true, true],
    ['ffffffff', false, false],
  ] as const)('%s', async (id, kms, app) => {
    const ask = (address: Address): Promise<boolean> =>
      chain.owner.public.readContract({
        address,
        abi: dstackAppAbi,
        functionName: 'supportsInterface',
        args: [`0x${id}`],
      });
    expect(await ask(chain.kms)).toBe(kms);
    expect(await ask(chain.app)).toBe(app);
  });
});

describe('upgrades', () => {
  test('the owner replaces the implementation and keeps the state', async () => {
    await addOsImageHash(chain.owner, chain.kms, value);
    const next = await deployKmsImplementation(chain.owner);
    await transact(chain.owner, chain.kms, dstackKmsAbi, 'upgradeToAndCall', [next, '0x']);
    const { public: reader } = chain.owner;
    expect(
      await reader.readContract({
        address: chain.kms,
        abi: dstackKmsAbi,
        functionName: 'allowedOsImages',
        args: [value],
      }),
    ).toBe(true);
    expect(
      await reader.readContract({
        address: chain.kms,
        abi: dstackKmsAbi,
        functionName: 'UPGRADE_INTERFACE_VERSION',
      }),
    ).toBe('5.0.0');
  });

  test('not to something that is no UUPS implementation, not with value and no call', async () => {
    const upgrade = (target: Hex): Promise<unknown> =>
      call(chain.owner, chain.kms, dstackKmsAbi, 'upgradeToAndCall', [target, '0x']);
    await expect(upgrade(repeated('55', 20))).rejects.toThrow();
    await expect(upgrade(chain.kms)).rejects.toThrow();
    const paid = chain.owner.public.simulateContract({
      address: chain.kms,
      abi: dstackKmsAbi,
      functionName: 'upgradeToAndCall',
      args: [chain.deployment.kmsImplementation, '0x'],
      account: chain.owner.account,
      value: 1n,
    });
    await expect(paid).rejects.toThrow('ERC1967NonPayable');
  });

  test('not directly on an implementation', async () => {
    const { kmsImplementation } = chain.deployment;
    await expect(
      call(chain.owner, kmsImplementation, dstackKmsAbi, 'upgradeToAndCall', [kmsImplementation, '0x']),
    ).rejects.toThrow('UUPSUnauthorizedCallContext');
  });

  test('never again after disableUpgrades, and the owner check comes first', async () => {
    const { appId } = await deployApp({ client: chain.owner, kms: chain.kms });
    const next = await deployAppImplementation(chain.owner);
    await transact(chain.owner, appId, dstackAppAbi, 'upgradeToAndCall', [next, '0x']);
    await transact(chain.owner, appId, dstackAppAbi, 'disableUpgrades', []);
    await expect(call(chain.owner, appId, dstackAppAbi, 'upgradeToAndCall', [next, '0x'])).rejects.toThrow(
      'Upgrades are permanently disabled',
    );
    await expect(call(chain.stranger, appId, dstackAppAbi, 'upgradeToAndCall', [next, '0x'])).rejects.toThrow(
      'OwnableUnauthorizedAccount',
    );
  });

  test('disabled from the start', async () => {
    const { appId } = await deployApp({ client: chain.owner, kms: chain.kms, disableUpgrades: true });
    const data = encodeFunctionData({
      abi: dstackAppAbi,
      functionName: 'upgradeToAndCall',
      args: [chain.deployment.appImplementation as Hex, '0x'],
    });
    await expect(chain.owner.public.call({ to: appId, data, account: chain.owner.account })).rejects.toThrow(
      'Upgrades are permanently disabled',
    );
  });
});
