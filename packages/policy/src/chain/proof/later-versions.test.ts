/** The same for later versions of the contracts (chapter 60 sections 4.1 and 5), whose code hashes are configured. */
import fc from 'fast-check';
import type { Hex } from 'viem';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { BootFacts, BootKind } from '../../policy.ts';
import { type ChainLab, startChainLab } from '../../test/chain-lab.ts';
import { facts, filled } from '../../test/facts.ts';
import { allowed, bytesOf, denied, hex, type Pair, verdict } from './test/compare.ts';
import { deployLaterVersions, type LaterVersions } from './test/later-versions.ts';

const { composeHash, deviceId, mrAggregated, osImageHash } = facts();
const other = filled(32, 0xee);

let lab: ChainLab;
beforeAll(async () => {
  lab = await startChainLab();
}, 60_000);
afterAll(() => lab?.stop());

describe('later versions', () => {
  let later: LaterVersions;
  let pair: Pair;
  let onKms: (name: string, ...args: unknown[]) => Promise<void>;
  beforeAll(async () => {
    later = await deployLaterVersions(lab);
    const { kms, kmsAbi, knownCode } = later;
    pair = { calls: lab.policy(kms), proofs: lab.policy(kms, { reads: 'proofs', knownCode }) };
    onKms = (name, ...args) => lab.send(kms, kmsAbi, name, args);
    for (const app of [later.app2, later.app3]) await onKms('setRegistered', app, true);
    await onKms('setImage', hex(osImageHash), true);
    await onKms('setMr', hex(mrAggregated), true);
    await onKms('setDevice', hex(deviceId), true);
  }, 60_000);

  const onApp = (app: Hex, name: string, ...args: unknown[]): Promise<void> =>
    lab.send(app, later.appAbi, name, args);
  const now = async (): Promise<number> =>
    Number((await lab.rpc<{ timestamp: Hex }>('eth_getBlockByNumber', 'latest', false)).timestamp);
  /** A block at exactly this time. */
  const blockAt = async (time: number): Promise<void> => {
    await lab.rpc('evm_setNextBlockTimestamp', time);
    await lab.rpc('anvil_mine', '0x1');
  };

  test('a KMS: pause, advisories, TCB, image, expiry, measurement, device, in this order', async () => {
    const ask = (changes: Partial<BootFacts> = {}) => verdict(pair, 'kms', facts(changes));
    expect(await ask()).toEqual(allowed);
    await onKms('setImageNotAfter', hex(osImageHash), 1);
    expect(await ask()).toEqual(denied('OS image authorization expired'));
    expect(await ask({ tcbStatus: 'OutOfDate' })).toEqual(denied('TCB status is not up to date'));
    await onKms('setAdvisory', 'INTEL-SA-00837', true);
    expect(await ask({ tcbStatus: 'OutOfDate' })).toEqual(denied('Advisory is denied'));
    expect(await ask({ advisoryIds: ['INTEL-SA-00001', 'INTEL-SA-00837'] })).toEqual(
      denied('Advisory is denied'),
    );
    expect(await ask({ advisoryIds: ['INTEL-SA-00001'] })).toEqual(denied('OS image authorization expired'));
    expect(await ask({ advisoryIds: [] })).toEqual(denied('OS image authorization expired'));
    await onKms('setPaused', true);
    expect(await ask()).toEqual(denied('KMS contract is paused'));
    await onKms('setPaused', false);
    await onKms('setAdvisory', 'INTEL-SA-00837', false);
    await onKms('setImageNotAfter', hex(osImageHash), 0);
    expect(await ask()).toEqual(allowed);
    expect(await ask({ mrAggregated: other })).toEqual(denied('Aggregated MR not allowed'));
    expect(await ask({ deviceId: other })).toEqual(denied('KMS is not allowed to boot on this device'));
  });

  test.each(['app2', 'app3'] as const)('%s: its own checks, in order', async (name) => {
    const app = later[name];
    const ask = (changes: Partial<BootFacts> = {}) =>
      verdict(pair, 'app', facts({ appId: bytesOf(app), ...changes }));
    expect(await ask()).toEqual(denied('Compose hash not allowed'));
    await onApp(app, 'setComposeHash', hex(composeHash), true);
    expect(await ask()).toEqual(denied('Device not allowed'));
    await onApp(app, 'setAllowAnyDevice', true);
    expect(await ask({ tcbStatus: '' })).toEqual(allowed);
    await onApp(app, 'setRequireTcb', true);
    expect(await ask({ tcbStatus: '' })).toEqual(denied('TCB status is not up to date'));
    expect(await ask({ tcbStatus: '', composeHash: other })).toEqual(denied('TCB status is not up to date'));
    expect(await ask()).toEqual(allowed);
    await onApp(app, 'setComposeNotAfter', hex(composeHash), 1);
    // Version 2 has the same storage and does not look there.
    expect(await ask()).toEqual(name === 'app2' ? allowed : denied('Compose hash expired'));
    await onApp(app, 'setAllowAnyDevice', false);
    expect(await ask()).toEqual(denied(name === 'app2' ? 'Device not allowed' : 'Compose hash expired'));
    await onApp(app, 'setComposeNotAfter', hex(composeHash), 0);
    await onApp(app, 'setDevice', hex(deviceId), true);
    expect(await ask()).toEqual(allowed);
  });

  test('what the KMS contract says of an app: blocked, expired, image, its expiry', async () => {
    const ask = () => verdict(pair, 'app', facts({ appId: bytesOf(later.app3) }));
    expect(await ask()).toEqual(allowed);
    await onKms('setImage', hex(osImageHash), false);
    expect(await ask()).toEqual(denied('OS image is not allowed'));
    await onKms('setAppNotAfter', later.app3, 1);
    expect(await ask()).toEqual(denied('App authorization expired'));
    await onKms('setBlocked', later.app3, true);
    expect(await ask()).toEqual(denied('App is blocked'));
    await onKms('setGuardian', later.app3, true);
    await onKms('setRegistered', later.app3, false);
    expect(await ask()).toEqual(denied('App not registered'));
    await onKms('setRegistered', later.app3, true);
    await onKms('setBlocked', later.app3, false);
    await onKms('setAppNotAfter', later.app3, 0);
    await onKms('setImage', hex(osImageHash), true);
    expect(await ask()).toEqual(allowed);
  });

  test('times end with their last second, by the clock of the block', async () => {
    const ask = () => verdict(pair, 'app', facts({ appId: bytesOf(later.app3) }));
    const end = (await now()) + 1_000;
    await onApp(later.app3, 'setComposeNotAfter', hex(composeHash), end + 4);
    await onKms('setImageNotAfter', hex(osImageHash), end + 2);
    await onKms('setAppNotAfter', later.app3, end);
    await blockAt(end);
    expect(await ask()).toEqual(allowed);
    await blockAt(end + 1);
    expect(await ask()).toEqual(denied('App authorization expired'));
    await onKms('setAppNotAfter', later.app3, 2n ** 64n - 1n);
    await blockAt(end + 3);
    expect(await ask()).toEqual(denied('OS image authorization expired'));
    await onKms('setImageNotAfter', hex(osImageHash), 0);
    await blockAt(end + 5);
    expect(await ask()).toEqual(denied('Compose hash expired'));
    await onApp(later.app3, 'setComposeNotAfter', hex(composeHash), 0);
    expect(await ask()).toEqual(allowed);
  });

  test('an app that goes to another version and back decides as the version it has', async () => {
    const ask = () => verdict(pair, 'app', facts({ appId: bytesOf(later.app3) }));
    await onApp(later.app3, 'setComposeNotAfter', hex(composeHash), 1);
    expect(await ask()).toEqual(denied('Compose hash expired'));
    await onApp(later.app3, 'upgradeTo', later.app2Implementation);
    expect(await ask()).toEqual(allowed);
    await onApp(later.app3, 'upgradeTo', later.app3Implementation);
    expect(await ask()).toEqual(denied('Compose hash expired'));
    await onApp(later.app3, 'setComposeNotAfter', hex(composeHash), 0);
  });

  test('a code hash that is not configured is not known', async () => {
    const policy = lab.policy(later.kms, { reads: 'proofs' });
    const { allowed: is, reason } = await policy.authorize('app', facts({ appId: bytesOf(later.app3) }));
    expect([is, reason]).toEqual([
      false,
      expect.stringMatching(/^KMS contract implementation 0x\w{40} is not known/),
    ]);
  });

  test('a walk through the states of the policy', async () => {
    const apps = [later.app2, later.app3];
    const end = (await now()) + 100_000;
    const on = fc.boolean();
    const time = fc.constantFrom(0, 1, end, end + 500, 2n ** 64n - 1n);
    const advisory = fc.constantFrom('INTEL-SA-00837', 'INTEL-SA-00001', '');
    const app = fc.constantFrom(...apps);
    const onKmsStep = (name: string, ...args: fc.Arbitrary<unknown>[]) =>
      fc.tuple(...args).map((values) => () => onKms(name, ...values));
    const onAppStep = (name: string, ...args: fc.Arbitrary<unknown>[]) =>
      fc.tuple(app, ...args).map(
        ([address, ...values]) =>
          () =>
            onApp(address, name, ...values),
      );
    const [image, compose, device] = [osImageHash, composeHash, deviceId].map((bytes) =>
      fc.constant(hex(bytes)),
    );
    const step = fc.oneof(
      onKmsStep('setPaused', fc.constantFrom(true, false, false, false)),
      onKmsStep('setAdvisory', advisory, on),
      onKmsStep('setBlocked', app, on),
      onKmsStep('setAppNotAfter', app, time),
      onKmsStep('setImageNotAfter', image!, time),
      onKmsStep('setGuardian', app, on),
      onKmsStep('setRegistered', app, on),
      onKmsStep('setImage', image!, on),
      onKmsStep('setMr', fc.constant(hex(mrAggregated)), on),
      onKmsStep('setDevice', device!, on),
      onAppStep('setComposeHash', compose!, on),
      onAppStep('setComposeNotAfter', compose!, time),
      onAppStep('setAllowAnyDevice', on),
      onAppStep('setUpgradesDisabled', on),
      onAppStep('setDevice', device!, on),
      onAppStep('setRequireTcb', on),
      onAppStep('upgradeTo', fc.constantFrom(later.app2Implementation, later.app3Implementation)),
      fc.constantFrom(end, end + 1, end + 501).map((at) => () => blockAt(at).catch(() => {})),
    );
    const question = fc.record({
      kind: fc.constantFrom<BootKind>('app', 'app', 'kms'),
      appId: app.map(bytesOf),
      tcbStatus: fc.constantFrom('UpToDate', 'OutOfDate', ''),
      advisoryIds: fc.uniqueArray(advisory, { maxLength: 3 }),
      deviceId: fc.constantFrom(deviceId, other),
    });
    const seen = new Set<string>();
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 3, maxLength: 12 }),
        fc.array(question, { minLength: 4, maxLength: 8 }),
        async (steps, questions) => {
          const snapshot = await lab.rpc('evm_snapshot');
          for (const take of steps) {
            await take();
            for (const { kind, ...changes } of questions)
              seen.add((await verdict(pair, kind, facts(changes))).reason);
          }
          await lab.rpc('evm_revert', snapshot);
          await lab.rpc('anvil_mine', '0x1');
        },
      ),
      { numRuns: 20 },
    );
    expect(seen.size).toBeGreaterThan(6);
  }, 120_000);
});
