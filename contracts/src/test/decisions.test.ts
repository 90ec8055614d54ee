/** Who may have keys, in which order it is checked, and with which words. */
import type { Hex } from 'viem';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dstackAppAbi } from '../abi/dstack-app.ts';
import { dstackKmsAbi } from '../abi/dstack-kms.ts';
import {
  addComposeHash,
  addDevice,
  addKmsAggregatedMr,
  addKmsDevice,
  addOsImageHash,
  registerApp,
  removeComposeHash,
  removeDevice,
  removeKmsAggregatedMr,
  removeKmsDevice,
  removeOsImageHash,
  setAllowAnyDevice,
} from '../manage.ts';
import { repeated, startTestChain, type TestChain, vectorBootInfo } from './test-chain.ts';

let chain: TestChain;
beforeAll(async () => {
  chain = await startTestChain();
});
afterAll(() => chain?.anvil.stop());

type Changes = { tcbStatus?: string; appId?: Hex };
type Answer = readonly [boolean, string];

const kmsAllowed = (changes: Changes = {}): Promise<Answer> =>
  chain.owner.public.readContract({
    address: chain.kms,
    abi: dstackKmsAbi,
    functionName: 'isKmsAllowed',
    args: [{ ...vectorBootInfo, ...changes }],
  });
const appAllowed = (changes: Changes = {}): Promise<Answer> =>
  chain.owner.public.readContract({
    address: chain.kms,
    abi: dstackKmsAbi,
    functionName: 'isAppAllowed',
    args: [{ ...vectorBootInfo, appId: chain.app, ...changes }],
  });

describe('isKmsAllowed', () => {
  // Every fault is present at first; each step corrects the one that was named.
  test('names the first fault, in order', async () => {
    expect(await kmsAllowed({ tcbStatus: 'OutOfDate' })).toEqual([false, 'TCB status is not up to date']);
    expect(await kmsAllowed({ tcbStatus: '' })).toEqual([false, 'TCB status is not up to date']);
    expect(await kmsAllowed({ tcbStatus: 'uptodate' })).toEqual([false, 'TCB status is not up to date']);
    expect(await kmsAllowed()).toEqual([false, 'OS image is not allowed']);
    await addOsImageHash(chain.owner, chain.kms, vectorBootInfo.osImageHash);
    expect(await kmsAllowed()).toEqual([false, 'Aggregated MR not allowed']);
    await addKmsAggregatedMr(chain.owner, chain.kms, vectorBootInfo.mrAggregated);
    expect(await kmsAllowed()).toEqual([false, 'KMS is not allowed to boot on this device']);
    await addKmsDevice(chain.owner, chain.kms, vectorBootInfo.deviceId);
    expect(await kmsAllowed()).toEqual([true, '']);
  });

  test('forgets what was removed', async () => {
    await removeKmsDevice(chain.owner, chain.kms, vectorBootInfo.deviceId);
    expect(await kmsAllowed()).toEqual([false, 'KMS is not allowed to boot on this device']);
    await removeKmsAggregatedMr(chain.owner, chain.kms, vectorBootInfo.mrAggregated);
    expect(await kmsAllowed()).toEqual([false, 'Aggregated MR not allowed']);
    await removeOsImageHash(chain.owner, chain.kms, vectorBootInfo.osImageHash);
    expect(await kmsAllowed()).toEqual([false, 'OS image is not allowed']);
  });
});

describe('isAppAllowed', () => {
  const unknown = repeated('11', 20);

  test('names the first fault, in order', async () => {
    expect(await appAllowed({ appId: unknown })).toEqual([false, 'App not registered']);
    await registerApp(chain.stranger, chain.kms, unknown);
    expect(await appAllowed({ appId: unknown })).toEqual([false, 'OS image is not allowed']);
    await addOsImageHash(chain.owner, chain.kms, vectorBootInfo.osImageHash);
    expect(await appAllowed({ appId: unknown })).toEqual([false, 'App not deployed or invalid address']);
    expect(await appAllowed()).toEqual([false, 'Compose hash not allowed']);
    await addComposeHash(chain.owner, chain.app, vectorBootInfo.composeHash);
    expect(await appAllowed()).toEqual([false, 'Device not allowed']);
    await addDevice(chain.owner, chain.app, vectorBootInfo.deviceId);
    expect(await appAllowed()).toEqual([true, '']);
  });

  test('does not look at the TCB status unless the app asks for it, as the 0.6 line does not', async () => {
    expect(await appAllowed({ tcbStatus: 'Revoked' })).toEqual([true, '']);
    expect(await appAllowed({ tcbStatus: '' })).toEqual([true, '']);
  });

  test('any device, when the owner says so', async () => {
    await removeDevice(chain.owner, chain.app, vectorBootInfo.deviceId);
    expect(await appAllowed()).toEqual([false, 'Device not allowed']);
    await setAllowAnyDevice(chain.owner, chain.app, true);
    expect(await appAllowed()).toEqual([true, '']);
    await setAllowAnyDevice(chain.owner, chain.app, false);
    expect(await appAllowed()).toEqual([false, 'Device not allowed']);
    await addDevice(chain.owner, chain.app, vectorBootInfo.deviceId);
  });

  test('forgets what was removed', async () => {
    await removeComposeHash(chain.owner, chain.app, vectorBootInfo.composeHash);
    expect(await appAllowed()).toEqual([false, 'Compose hash not allowed']);
    await addComposeHash(chain.owner, chain.app, vectorBootInfo.composeHash);
    await removeOsImageHash(chain.owner, chain.kms, vectorBootInfo.osImageHash);
    expect(await appAllowed()).toEqual([false, 'OS image is not allowed']);
  });

  test('the app contract does not compare the app id with its own address', async () => {
    const answer = await chain.owner.public.readContract({
      address: chain.app,
      abi: dstackAppAbi,
      functionName: 'isAppAllowed',
      args: [{ ...vectorBootInfo, appId: unknown }],
    });
    expect(answer).toEqual([true, '']);
  });

  test('an app contract that reverts denies', async () => {
    await addOsImageHash(chain.owner, chain.kms, vectorBootInfo.osImageHash);
    // PUSH 0, PUSH 0, REVERT
    await chain.owner.public.request({
      method: 'anvil_setCode' as never,
      params: [unknown, '0x60006000fd'] as never,
    });
    expect(await appAllowed({ appId: unknown })).toEqual([false, 'App authorization call failed']);
  });
});
