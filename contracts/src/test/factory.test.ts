/** The app factory: log order, addresses, refusals. */
import { getContractAddress, type Hex, parseEventLogs, zeroAddress, zeroHash } from 'viem';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dstackAppAbi } from '../abi/dstack-app.ts';
import { dstackKmsAbi } from '../abi/dstack-kms.ts';
import { deployApp, deployKms } from '../deploy.ts';
import { repeated, startTestChain, type TestChain } from './test-chain.ts';

let chain: TestChain;
beforeAll(async () => {
  chain = await startTestChain();
});
afterAll(() => chain?.anvil.stop());

const read = (address: Hex, functionName: 'owner' | 'allowAnyDevice'): Promise<unknown> =>
  chain.owner.public.readContract({ address, abi: dstackAppAbi, functionName });

test('the first app of the first KMS has the documented address', () => {
  expect(chain.kms).toBe('0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0');
  expect(chain.app).toBe('0x75537828f2ce51be7289709686A69CbFDbB714F1');
  expect(getContractAddress({ from: chain.kms, nonce: 1n })).toBe(chain.app);
});

describe('logs', () => {
  const events = async (options: { deviceId?: Hex; composeHash?: Hex }): Promise<string[]> => {
    const { appId, transactionHash } = await deployApp({
      client: chain.stranger,
      kms: chain.kms,
      owner: chain.owner.account.address,
      ...options,
    });
    const { logs } = await chain.owner.public.getTransactionReceipt({ hash: transactionHash });
    const named = parseEventLogs({ abi: [...dstackAppAbi, ...dstackKmsAbi], logs }).map(
      ({ address, eventName }) => {
        const where = address.toLowerCase() === appId.toLowerCase() ? 'app' : 'kms';
        return `${where} ${eventName}`;
      },
    );
    // What indexers of the 0.6 line know; the others come between.
    return named.filter((name) => !/PolicyChanged|KmsSet/.test(name));
  };
  const tail = [
    'app OwnershipTransferred',
    'app Initialized',
    'kms AppRegistered',
    'kms AppDeployedViaFactory',
  ];

  test('with a device and a compose hash', async () => {
    expect(await events({ deviceId: repeated('44', 32), composeHash: repeated('22', 32) })).toEqual([
      'app Upgraded',
      'app DeviceAdded',
      'app ComposeHashAdded',
      ...tail,
    ]);
  });
  test('with neither', async () => {
    expect(await events({})).toEqual(['app Upgraded', ...tail]);
  });
});

test('the event names the caller, the contract belongs to the owner', async () => {
  const { appId, transactionHash } = await deployApp({
    client: chain.stranger,
    kms: chain.kms,
    owner: chain.owner.account.address,
    allowAnyDevice: true,
  });
  const { logs } = await chain.owner.public.getTransactionReceipt({ hash: transactionHash });
  const [deployed] = parseEventLogs({ abi: dstackKmsAbi, eventName: 'AppDeployedViaFactory', logs });
  expect(deployed?.args).toEqual({ appId, deployer: chain.stranger.account.address });
  expect(await read(appId, 'owner')).toBe(chain.owner.account.address);
  expect(await read(appId, 'allowAnyDevice')).toBe(true);
});

describe('refusals', () => {
  const deploy = (kms: Hex, owner: Hex): Promise<unknown> =>
    chain.owner.public.simulateContract({
      address: kms,
      abi: dstackKmsAbi,
      functionName: 'deployAndRegisterApp',
      args: [owner, false, false, zeroHash, zeroHash],
      account: chain.owner.account,
    });

  test('no owner', async () => {
    await expect(deploy(chain.kms, zeroAddress)).rejects.toThrow('Invalid owner address');
  });
  test('no implementation', async () => {
    const { kms } = await deployKms({ client: chain.owner, appImplementation: null });
    await expect(deploy(kms, chain.owner.account.address)).rejects.toThrow(
      'DstackApp implementation not set',
    );
  });
  test('app zero', async () => {
    const register = chain.owner.public.simulateContract({
      address: chain.kms,
      abi: dstackKmsAbi,
      functionName: 'registerApp',
      args: [zeroAddress],
    });
    await expect(register).rejects.toThrow('Invalid app ID');
  });
});
