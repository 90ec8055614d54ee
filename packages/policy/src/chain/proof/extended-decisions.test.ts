/**
 * What our contracts have beyond those of the 0.6 line, by proven storage and by the EVM of a real node: pause,
 * advisories, blocked apps, expiries, the TCB requirement; with apps of every version under one KMS contract.
 */

import type { BootInfo } from '@dstack-cloud/attestation';
import fc from 'fast-check';
import type { Hex } from 'viem';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { BootKind } from '../../policy.ts';
import { type ChainLab, startChainLab } from '../../test/chain-lab.ts';
import { facts, filled } from '../../test/facts.ts';
import { allowed, bytesOf, decide, denied, hex, type Pair } from './test/compare.ts';
import { deployMixedDomain, type MixedDomain } from './test/mixed-domain.ts';

const { composeHash, deviceId, mrAggregated, osImageHash } = facts();
const other = filled(32, 0xee);

let lab: ChainLab;
beforeAll(async () => {
  lab = await startChainLab();
}, 60_000);
afterAll(() => lab?.stop());

describe('apps of every version', () => {
  let domain: MixedDomain;
  let pair: Pair;
  let onKms: (name: string, ...args: unknown[]) => Promise<void>;
  beforeAll(async () => {
    domain = await deployMixedDomain(lab);
    const { kms, kmsAbi, knownCode } = domain;
    pair = { calls: lab.policy(kms), proofs: lab.policy(kms, { reads: 'proofs', knownCode }) };
    onKms = (name, ...args) => lab.send(kms, kmsAbi, name, args);
    for (const app of [domain.old, domain.successor, domain.app]) await onKms('registerApp', app);
    await onKms('addOsImageHash', hex(osImageHash));
    await onKms('addKmsAggregatedMr', hex(mrAggregated));
    await onKms('addKmsDevice', hex(deviceId));
  }, 60_000);

  const onApp = (app: Hex, name: string, ...args: unknown[]): Promise<void> =>
    lab.send(app, domain.appAbi, name, args);
  const now = async (): Promise<number> =>
    Number((await lab.rpc<{ timestamp: Hex }>('eth_getBlockByNumber', 'latest', false)).timestamp);
  /** A block at exactly this time. */
  const blockAt = async (time: number): Promise<void> => {
    await lab.rpc('evm_setNextBlockTimestamp', time);
    await lab.rpc('anvil_mine', '0x1');
  };

  test('a KMS: pause, advisories, TCB, image, expiry, measurement, device, in this order', async () => {
    const ask = (changes: Partial<BootInfo> = {}) => decide(pair, 'kms', facts(changes));
    expect(await ask()).toEqual(allowed);
    await onKms('addOsImageHashUntil', hex(osImageHash), 1);
    expect(await ask()).toEqual(denied('OS image authorization expired'));
    expect(await ask({ tcbStatus: 'OutOfDate' })).toEqual(denied('TCB status is not up to date'));
    await onKms('denyAdvisory', 'INTEL-SA-00837');
    expect(await ask({ tcbStatus: 'OutOfDate' })).toEqual(denied('Advisory is denied'));
    expect(await ask({ advisoryIds: ['INTEL-SA-00001', 'INTEL-SA-00837'] })).toEqual(
      denied('Advisory is denied'),
    );
    expect(await ask({ advisoryIds: ['INTEL-SA-00001'] })).toEqual(denied('OS image authorization expired'));
    expect(await ask({ advisoryIds: [] })).toEqual(denied('OS image authorization expired'));
    await onKms('pause');
    expect(await ask()).toEqual(denied('KMS contract is paused'));
    await onKms('unpause');
    await onKms('allowAdvisory', 'INTEL-SA-00837');
    await onKms('addOsImageHash', hex(osImageHash));
    expect(await ask()).toEqual(allowed);
    expect(await ask({ mrAggregated: other })).toEqual(denied('Aggregated MR not allowed'));
    expect(await ask({ deviceId: other })).toEqual(denied('KMS is not allowed to boot on this device'));
  });

  test.each(['old', 'successor', 'app'] as const)('%s: its own checks, in order', async (name) => {
    const app = domain[name];
    const ask = (changes: Partial<BootInfo> = {}) =>
      decide(pair, 'app', facts({ appId: bytesOf(app), ...changes }));
    expect(await ask()).toEqual(denied('Compose hash not allowed'));
    await onApp(app, 'addComposeHash', hex(composeHash));
    expect(await ask()).toEqual(denied('Device not allowed'));
    await onApp(app, 'setAllowAnyDevice', true);
    expect(await ask({ tcbStatus: '' })).toEqual(allowed);
    if (name !== 'old') {
      await onApp(app, 'setRequireTcbUpToDate', true);
      expect(await ask({ tcbStatus: '' })).toEqual(denied('TCB status is not up to date'));
      expect(await ask({ tcbStatus: '', composeHash: other })).toEqual(
        denied('TCB status is not up to date'),
      );
      expect(await ask()).toEqual(allowed);
    }
    if (name === 'app') {
      await onApp(app, 'addComposeHashUntil', hex(composeHash), 1);
      expect(await ask()).toEqual(denied('Compose hash expired'));
      await onApp(app, 'setAllowAnyDevice', false);
      expect(await ask()).toEqual(denied('Compose hash expired'));
      await onApp(app, 'addComposeHash', hex(composeHash));
    }
    await onApp(app, 'setAllowAnyDevice', false);
    expect(await ask()).toEqual(denied('Device not allowed'));
    await onApp(app, 'addDevice', hex(deviceId));
    expect(await ask()).toEqual(allowed);
  });

  test('what the KMS contract says of an app: blocked, expired, image, its expiry', async () => {
    const ask = () => decide(pair, 'app', facts({ appId: bytesOf(domain.app) }));
    expect(await ask()).toEqual(allowed);
    await onKms('removeOsImageHash', hex(osImageHash));
    expect(await ask()).toEqual(denied('OS image is not allowed'));
    await onKms('setAppPolicyExpiry', domain.app, 1);
    expect(await ask()).toEqual(denied('App authorization expired'));
    await onKms('blockApp', domain.app);
    expect(await ask()).toEqual(denied('App is blocked'));
    // Registration is open to everybody, and does not help.
    await lab.send(domain.kms, domain.kmsAbi, 'registerApp', [domain.app], lab.stranger);
    expect(await ask()).toEqual(denied('App is blocked'));
    await onKms('setGuardian', domain.app, true);
    await onKms('unblockApp', domain.app);
    await onKms('setAppPolicyExpiry', domain.app, 0);
    await onKms('addOsImageHash', hex(osImageHash));
    expect(await ask()).toEqual(allowed);
  });

  test('a guardian revokes at once', async () => {
    const ask = () => decide(pair, 'app', facts({ appId: bytesOf(domain.app) }));
    await onKms('setGuardian', lab.stranger, true);
    await lab.send(domain.kms, domain.kmsAbi, 'removeOsImageHash', [hex(osImageHash)], lab.stranger);
    expect(await ask()).toEqual(denied('OS image is not allowed'));
    await onKms('addOsImageHash', hex(osImageHash));
    expect(await ask()).toEqual(allowed);
  });

  test('times end with their last second, by the clock of the block', async () => {
    const ask = () => decide(pair, 'app', facts({ appId: bytesOf(domain.app) }));
    const end = (await now()) + 1_000;
    await onApp(domain.app, 'addComposeHashUntil', hex(composeHash), end + 4);
    await onKms('addOsImageHashUntil', hex(osImageHash), end + 2);
    await onKms('setAppPolicyExpiry', domain.app, end);
    await blockAt(end);
    expect(await ask()).toEqual(allowed);
    await blockAt(end + 1);
    expect(await ask()).toEqual(denied('App authorization expired'));
    await onKms('setAppPolicyExpiry', domain.app, 2n ** 64n - 1n);
    await blockAt(end + 3);
    expect(await ask()).toEqual(denied('OS image authorization expired'));
    await onKms('addOsImageHash', hex(osImageHash));
    await blockAt(end + 5);
    expect(await ask()).toEqual(denied('Compose hash expired'));
    await onApp(domain.app, 'addComposeHash', hex(composeHash));
    expect(await ask()).toEqual(allowed);
  });

  test('an app that goes to another version and back decides as the version it has', async () => {
    const ask = () => decide(pair, 'app', facts({ appId: bytesOf(domain.app) }));
    await onApp(domain.app, 'addComposeHashUntil', hex(composeHash), 1);
    expect(await ask()).toEqual(denied('Compose hash expired'));
    await onApp(domain.app, 'upgradeToAndCall', domain.successorImplementation, '0x');
    expect(await ask()).toEqual(allowed);
    await onApp(domain.app, 'upgradeToAndCall', domain.appImplementation, '0x');
    expect(await ask()).toEqual(denied('Compose hash expired'));
    await onApp(domain.app, 'addComposeHash', hex(composeHash));
  });

  test('a code hash that is not configured is not known', async () => {
    const policy = lab.policy(domain.kms, { reads: 'proofs' });
    const info = facts({ appId: bytesOf(domain.successor) });
    const { allowed: is, reason } = await policy.authorize('app', info);
    expect([is, reason]).toEqual([
      false,
      expect.stringMatching(/^App contract implementation 0x\w{40} is not known/),
    ]);
  });

  test('a walk through the states of the policy', async () => {
    const apps = [domain.old, domain.successor, domain.app];
    const ours = [domain.app];
    const end = (await now()) + 100_000;
    const on = fc.boolean();
    const time = fc.constantFrom(0, 1, end, end + 500, 2n ** 64n - 1n);
    const advisory = fc.constantFrom('INTEL-SA-00837', 'INTEL-SA-00001', '');
    const app = fc.constantFrom(...apps);
    /** A call by name. */
    const onKmsStep = (names: readonly string[], ...args: fc.Arbitrary<unknown>[]) =>
      fc.tuple(fc.constantFrom(...names), ...args).map(
        ([name, ...values]) =>
          () =>
            onKms(name, ...values),
      );
    const onAppStep = (of: readonly Hex[], names: readonly string[], ...args: fc.Arbitrary<unknown>[]) =>
      fc.tuple(fc.constantFrom(...of), fc.constantFrom(...names), ...args).map(
        ([address, name, ...values]) =>
          () =>
            onApp(address, name, ...values),
      );
    const [image, compose, device] = [osImageHash, composeHash, deviceId].map((bytes) =>
      fc.constant(hex(bytes)),
    ) as [fc.Arbitrary<Hex>, fc.Arbitrary<Hex>, fc.Arbitrary<Hex>];
    const implementations = fc.constantFrom(domain.successorImplementation, domain.appImplementation);
    const step = fc.oneof(
      onKmsStep(['pause', 'unpause', 'unpause', 'unpause']),
      onKmsStep(['denyAdvisory', 'allowAdvisory'], advisory),
      onKmsStep(['blockApp', 'unblockApp', 'registerApp'], app),
      onKmsStep(['setAppPolicyExpiry'], app, time),
      onKmsStep(['addOsImageHashUntil'], image, time),
      onKmsStep(['addOsImageHash', 'addMeasurement', 'removeOsImageHash'], image),
      onKmsStep(['addKmsAggregatedMr', 'removeKmsAggregatedMr'], fc.constant(hex(mrAggregated))),
      onKmsStep(['addKmsDevice', 'removeKmsDevice'], device),
      onKmsStep(['setGuardian'], app, on),
      onAppStep(apps, ['addComposeHash', 'removeComposeHash'], compose),
      onAppStep(apps, ['addDevice', 'removeDevice'], device),
      onAppStep(apps, ['setAllowAnyDevice'], on),
      onAppStep(apps.slice(1), ['setRequireTcbUpToDate'], on),
      // Refused while the proxy has another version's code.
      onAppStep(ours, ['addComposeHashUntil'], compose, time).map((take) => () => take().catch(() => {})),
      onAppStep(apps.slice(1), ['upgradeToAndCall'], implementations, fc.constant('0x')),
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
              seen.add((await decide(pair, kind, facts(changes))).reason);
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
