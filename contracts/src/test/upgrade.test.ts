/** Live proxies of each earlier release, upgraded to this version and back, keep what they hold and go on deciding. */
import { type Abi, type Address, type Hex, keccak256, toHex, zeroHash } from 'viem';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dstackAppAbi } from '../abi/dstack-app.ts';
import { dstackKmsAbi } from '../abi/dstack-kms.ts';
import { loadRelease, type Release } from '../artifact.ts';
import { deployAppImplementation, deployKms, deployKmsImplementation } from '../deploy.ts';
import { transact } from '../transact.ts';
import { repeated, startTestChain, type TestChain, vectorBootInfo } from './test-chain.ts';

let chain: TestChain;
beforeAll(async () => {
  chain = await startTestChain();
});
afterAll(() => chain?.anvil.stop());

const info = {
  k256Pubkey: '0x0102',
  caPubkey: repeated('ca', 91),
  quote: repeated('01', 4000),
  eventlog: '0x',
};
const { osImageHash, mrAggregated, deviceId, composeHash } = vectorBootInfo;

/** A domain of an earlier release with one app, in use. */
async function oldDomain(
  release: Release = '0.6',
): Promise<{ kms: Address; app: Address; kmsCode: Address; appCode: Address }> {
  const { owner } = chain;
  const oldKms = loadRelease(release, 'DstackKms');
  const deployed = await deployKms({ client: owner, release });
  const { kms, kmsImplementation: kmsCode } = deployed;
  const appCode = deployed.appImplementation!;
  const write = (to: Address, abi: Abi, name: string, ...args: unknown[]) =>
    transact(owner, to, abi, name, args);
  await write(kms, oldKms.abi, 'setKmsInfo', info);
  await write(kms, oldKms.abi, 'setGatewayAppId', 'gateway with a name that is longer than one word');
  await write(kms, oldKms.abi, 'addOsImageHash', osImageHash);
  await write(kms, oldKms.abi, 'addKmsAggregatedMr', mrAggregated);
  await write(kms, oldKms.abi, 'addKmsDevice', deviceId);
  const args = [owner.account.address, false, false, deviceId, composeHash];
  const simulated = await owner.public.simulateContract({
    address: kms,
    abi: oldKms.abi,
    functionName: 'deployAndRegisterApp',
    args,
    account: owner.account,
  });
  await write(kms, oldKms.abi, 'deployAndRegisterApp', ...args);
  return { kms, app: simulated.result as Address, kmsCode, appCode };
}

const read = (address: Address, abi: Abi, functionName: string, ...args: unknown[]): Promise<unknown> =>
  chain.owner.public.readContract({ address, abi, functionName, args });

/** All that both versions can tell. */
async function stateOf(kms: Address, app: Address): Promise<unknown[]> {
  const [kmsAbi, appAbi] = [dstackKmsAbi as Abi, dstackAppAbi as Abi];
  return await Promise.all([
    read(kms, kmsAbi, 'owner'),
    read(kms, kmsAbi, 'kmsInfo'),
    read(kms, kmsAbi, 'gatewayAppId'),
    read(kms, kmsAbi, 'appImplementation'),
    read(kms, kmsAbi, 'registeredApps', app),
    read(kms, kmsAbi, 'allowedOsImages', osImageHash),
    read(kms, kmsAbi, 'allowedOsImages', composeHash),
    read(kms, kmsAbi, 'isKmsAllowed', vectorBootInfo),
    read(kms, kmsAbi, 'isAppAllowed', { ...vectorBootInfo, appId: app }),
    read(app, appAbi, 'owner'),
    read(app, appAbi, 'allowAnyDevice'),
    read(app, appAbi, 'allowedDeviceIds', deviceId),
    read(app, appAbi, 'allowedComposeHashes', composeHash),
  ]);
}

test('from 0.6 to this version and back', async () => {
  const { owner } = chain;
  const { kms, app, kmsCode, appCode } = await oldDomain();
  const before = await stateOf(kms, app);
  expect(before.slice(7, 9)).toEqual([
    [true, ''],
    [true, ''],
  ]);
  const upgrade = (proxy: Address, code: Hex) =>
    transact(owner, proxy, dstackKmsAbi, 'upgradeToAndCall', [code, '0x']);

  await upgrade(kms, await deployKmsImplementation(owner));
  expect(await stateOf(kms, app)).toEqual(before);
  // Off until the owner turns it on: nobody can pause, nothing is counted, no app is blocked.
  expect(await read(kms, dstackKmsAbi as Abi, 'policyEpoch')).toBe(0n);
  expect(await read(kms, dstackKmsAbi as Abi, 'paused')).toBe(false);
  await upgrade(app, await deployAppImplementation(owner));
  expect(await stateOf(kms, app)).toEqual(before);
  expect(await read(app, dstackAppAbi as Abi, 'requireTcbUpToDate')).toBe(false);
  expect(await read(app, dstackAppAbi as Abi, 'kms')).toBe('0x0000000000000000000000000000000000000000');

  await transact(owner, kms, dstackKmsAbi, 'blockApp', [app]);
  expect((await stateOf(kms, app))[8]).toEqual([false, 'App is blocked']);
  await transact(owner, kms, dstackKmsAbi, 'unblockApp', [app]);
  await transact(owner, app, dstackAppAbi, 'setRequireTcbUpToDate', [true]);
  await transact(owner, app, dstackAppAbi, 'setRequireTcbUpToDate', [false]);
  await upgrade(kms, kmsCode);
  await upgrade(app, appCode);
  expect(await stateOf(kms, app)).toEqual(before);
  // What ours counted is still there when the proxy comes back.
  await upgrade(kms, await deployKmsImplementation(owner));
  expect(await read(kms, dstackKmsAbi as Abi, 'policyEpoch')).toBe(3n);
});

test('the factory makes apps of the 0.6 line too', async () => {
  const { owner } = chain;
  const { kms } = await oldDomain();
  await transact(owner, kms, dstackKmsAbi, 'upgradeToAndCall', [chain.deployment.kmsImplementation, '0x']);
  const make = (requireTcb: boolean) => [
    owner.account.address,
    ...[false, requireTcb, true, zeroHash, composeHash],
  ];
  await transact(owner, kms, dstackKmsAbi, 'deployAndRegisterApp', make(false));
  // Its code has no TCB requirement, and says so by refusing.
  await expect(transact(owner, kms, dstackKmsAbi, 'deployAndRegisterApp', make(true))).rejects.toThrow();
});

test('from release 3 to this version and back: guardians, ends, blocks, denials and epochs stay', async () => {
  const { owner } = chain;
  const { kms, app, kmsCode, appCode } = await oldDomain('3');
  const kmsAbi = loadRelease('3', 'DstackKms').abi;
  const appAbi = loadRelease('3', 'DstackApp').abi;
  const guardian = chain.stranger.account.address;
  const [later, other] = [4_000_000_000n, repeated('12', 20)];
  const advisory = keccak256(toHex('INTEL-SA-00001'));
  const write = (to: Address, abi: Abi, name: string, ...args: unknown[]) =>
    transact(owner, to, abi, name, args);
  await write(kms, kmsAbi, 'setGuardian', guardian, true);
  await write(kms, kmsAbi, 'addOsImageHashUntil', repeated('78', 32), later);
  await write(kms, kmsAbi, 'setAppPolicyExpiry', app, later);
  await write(kms, kmsAbi, 'blockApp', other);
  await write(kms, kmsAbi, 'denyAdvisory', 'INTEL-SA-00001');
  await write(app, appAbi, 'addComposeHashUntil', repeated('23', 32), later);
  await write(app, appAbi, 'setGuardian', guardian, true);
  const extended = async (): Promise<unknown[]> => [
    ...(await stateOf(kms, app)),
    await read(kms, kmsAbi, 'isGuardian', guardian),
    await read(kms, kmsAbi, 'osImageNotAfter', repeated('78', 32)),
    await read(kms, kmsAbi, 'appNotAfter', app),
    await read(kms, kmsAbi, 'blockedApps', other),
    await read(kms, kmsAbi, 'advisoryDenied', advisory),
    await read(kms, kmsAbi, 'paused'),
    await read(app, appAbi, 'kms'),
    await read(app, appAbi, 'isGuardian', guardian),
    await read(app, appAbi, 'composeHashNotAfter', repeated('23', 32)),
  ];
  const before = await extended();
  expect(before).toContain(later);
  expect(before.slice(7, 9)).toEqual([
    [true, ''],
    [true, ''],
  ]);
  const epochs = async (): Promise<unknown[]> => [
    await read(kms, kmsAbi, 'policyEpoch'),
    await read(app, appAbi, 'policyEpoch'),
  ];
  const [kmsEpoch, appEpoch] = (await epochs()) as [bigint, bigint];
  await write(kms, kmsAbi, 'upgradeToAndCall', await deployKmsImplementation(owner), '0x');
  await write(app, appAbi, 'upgradeToAndCall', await deployAppImplementation(owner), '0x');
  expect(await extended()).toEqual(before);
  // Whoever remembered a decision by its epoch asks again: other code may decide otherwise.
  expect(await epochs()).toEqual([kmsEpoch + 1n, appEpoch + 1n]);
  expect(await read(kms, dstackKmsAbi as Abi, 'policyDelay')).toBe(0n);

  await write(kms, dstackKmsAbi as Abi, 'setPolicyDelay', 3_600n);
  await expect(write(kms, dstackKmsAbi as Abi, 'addOsImageHash', repeated('79', 32))).rejects.toThrow();
  await transact(chain.stranger, kms, dstackKmsAbi, 'pause', []);
  expect((await stateOf(kms, app))[8]).toEqual([false, 'KMS contract is paused']);
  // Going back loosens the policy: it waits, too.
  await expect(write(kms, dstackKmsAbi as Abi, 'upgradeToAndCall', kmsCode, '0x')).rejects.toThrow();
  await write(app, dstackAppAbi as Abi, 'upgradeToAndCall', appCode, '0x');
  expect(await read(app, appAbi, 'composeHashNotAfter', repeated('23', 32))).toBe(later);
});
