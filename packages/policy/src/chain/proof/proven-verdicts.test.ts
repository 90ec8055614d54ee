/**
 * What is decided from proven storage is what the contracts decide, in the same words: the EVM of a real node is the
 * oracle (chapter 60 sections 2.2, 3, 4.1 and 5).
 */
import { fromHex, toHex } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import type { Hex } from 'viem';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { BootFacts, BootKind, Decision } from '../../policy.ts';
import { type ChainLab, deployContracts, type LabContracts, startChainLab } from '../../test/chain-lab.ts';
import { facts, filled } from '../../test/facts.ts';
import type { ChainPolicy } from '../chain-policy.ts';
import { deployLaterVersions, type LaterVersions } from './test/later-versions.ts';

const hex = (bytes: Uint8Array): Hex => `0x${toHex(bytes)}`;
const bytesOf = (text: string): Uint8Array => fromHex(text, { prefix: 'allow' });
const { composeHash, deviceId, mrAggregated, osImageHash } = facts();
const other = filled(32, 0xee);

let lab: ChainLab;
beforeAll(async () => {
  lab = await startChainLab();
}, 60_000);
afterAll(() => lab?.stop());

type Pair = { readonly calls: ChainPolicy; readonly proofs: ChainPolicy };

/** Both must say the same; the verdict is returned. */
async function verdict({ calls, proofs }: Pair, kind: BootKind, info: BootFacts): Promise<Decision> {
  const [called, proven] = [await calls.authorize(kind, info), await proofs.authorize(kind, info)];
  expect(proven).toEqual(called);
  return proven;
}

const allowed = expect.objectContaining({ allowed: true, reason: '' });
const denied = (reason: string): unknown => expect.objectContaining({ allowed: false, reason });

describe('our contracts', () => {
  let contracts: LabContracts;
  let pair: Pair;
  let onApp: (name: string, ...args: unknown[]) => Promise<void>;
  let onKms: (name: string, ...args: unknown[]) => Promise<void>;
  beforeAll(async () => {
    contracts = await deployContracts(lab);
    const { kms, kmsAbi, app, appAbi } = contracts;
    pair = { calls: lab.policy(kms), proofs: lab.policy(kms, { reads: 'proofs' }) };
    onKms = (name, ...args) => lab.send(kms, kmsAbi, name, args);
    onApp = (name, ...args) => lab.send(app, appAbi, name, args);
  });

  const ofApp = (changes: Partial<BootFacts> = {}): BootFacts =>
    facts({ appId: bytesOf(contracts.app), ...changes });

  test('a KMS: each fault is named in order, then it is allowed, then what is taken away is missing', async () => {
    const ask = (changes: Partial<BootFacts> = {}) => verdict(pair, 'kms', facts(changes));
    expect(await ask({ tcbStatus: 'OutOfDate' })).toEqual(denied('TCB status is not up to date'));
    expect(await ask({ tcbStatus: '' })).toEqual(denied('TCB status is not up to date'));
    expect(await ask({ tcbStatus: 'uptodate' })).toEqual(denied('TCB status is not up to date'));
    expect(await ask()).toEqual(denied('OS image is not allowed'));
    await onKms('addOsImageHash', hex(osImageHash));
    expect(await ask()).toEqual(denied('Aggregated MR not allowed'));
    await onKms('addKmsAggregatedMr', hex(mrAggregated));
    expect(await ask()).toEqual(denied('KMS is not allowed to boot on this device'));
    await onKms('addKmsDevice', hex(deviceId));
    expect(await ask()).toEqual(allowed);
    expect(await ask({ osImageHash: other })).toEqual(denied('OS image is not allowed'));
    expect(await ask({ mrAggregated: other })).toEqual(denied('Aggregated MR not allowed'));
    await onKms('removeKmsAggregatedMr', hex(mrAggregated));
    expect(await ask()).toEqual(denied('Aggregated MR not allowed'));
    await onKms('removeOsImageHash', hex(osImageHash));
    expect(await ask()).toEqual(denied('OS image is not allowed'));
  });

  test('an app: each fault is named in order, then it is allowed, then what is taken away is missing', async () => {
    const nowhere = { appId: filled(20, 0x12) };
    const ask = (changes: Partial<BootFacts> = {}) => verdict(pair, 'app', ofApp(changes));
    expect(await ask(nowhere)).toEqual(denied('App not registered'));
    await onKms('registerApp', hex(nowhere.appId));
    await onKms('registerApp', contracts.app);
    expect(await ask(nowhere)).toEqual(denied('OS image is not allowed'));
    await onKms('addOsImageHash', hex(osImageHash));
    expect(await ask(nowhere)).toEqual(denied('App not deployed or invalid address'));
    expect(await ask()).toEqual(denied('Compose hash not allowed'));
    await onApp('addComposeHash', hex(composeHash));
    expect(await ask()).toEqual(denied('Device not allowed'));
    await onApp('addDevice', hex(deviceId));
    expect(await ask({ tcbStatus: 'Revoked' })).toEqual(allowed);
    expect(await ask({ deviceId: other })).toEqual(denied('Device not allowed'));
    await onApp('setAllowAnyDevice', true);
    expect(await ask({ deviceId: other })).toEqual(allowed);
    await onApp('disableUpgrades');
    expect(await ask({ deviceId: other })).toEqual(allowed);
    await onApp('setAllowAnyDevice', false);
    expect(await ask({ deviceId: other })).toEqual(denied('Device not allowed'));
    expect(await ask()).toEqual(allowed);
    await onApp('removeComposeHash', hex(composeHash));
    expect(await ask()).toEqual(denied('Compose hash not allowed'));
    await onApp('addComposeHash', hex(composeHash));
  });

  test('an account with money and no code is not deployed', async () => {
    const appId = bytesOf(lab.stranger);
    await onKms('registerApp', lab.stranger);
    expect(await verdict(pair, 'app', facts({ appId }))).toEqual(
      denied('App not deployed or invalid address'),
    );
  });

  test('an app that the factory made', async () => {
    const zero = `0x${'00'.repeat(32)}`;
    await onKms('deployAndRegisterApp', lab.stranger, true, true, zero, hex(composeHash));
    const logs = await lab.rpc<{ topics: Hex[] }[]>('eth_getLogs', {
      address: contracts.kms,
      fromBlock: '0x0',
      topics: ['0xfd86d7f6962eba3b7a3bf9129c06c0b2f885e1c61ef2c9f0dbb856be0deefdee'],
    });
    const appId = fromHex(logs.at(-1)!.topics[1]!.slice(26));
    expect(await verdict(pair, 'app', facts({ appId }))).toEqual(allowed);
    expect(await verdict(pair, 'app', facts({ appId, composeHash: other }))).toEqual(
      denied('Compose hash not allowed'),
    );
  });

  test.each([0, 1, 31, 32, 33, 40, 64, 65, 255, 256])('a gateway app id of %i bytes', async (length) => {
    const gateway = 'gateway-'.repeat(32).slice(0, length);
    await onKms('setGatewayAppId', gateway);
    const decision = await verdict(pair, 'app', ofApp());
    expect(decision.gatewayAppId).toBe(gateway);
    expect(await pair.proofs.describe()).toEqual(await pair.calls.describe());
  });

  test('a gateway app id in other letters, and none that is too long', async () => {
    await onKms('setGatewayAppId', 'Tür-🚪-'.repeat(9));
    expect((await verdict(pair, 'app', ofApp())).gatewayAppId).toBe('Tür-🚪-'.repeat(9));
    for (const length of [257, 1_025, 5_000]) {
      await onKms('setGatewayAppId', 'x'.repeat(length));
      expect(await verdict(pair, 'app', ofApp())).toMatchObject({ allowed: false, failure: 'unavailable' });
    }
    await onKms('setGatewayAppId', 'gateway');
  });

  describe('code that is not known', () => {
    const refusal = async (appId: Hex): Promise<string> => {
      const { allowed, reason } = await pair.proofs.authorize('app', ofApp({ appId: bytesOf(appId) }));
      expect(allowed).toBe(false);
      return reason;
    };
    // Says yes to everybody: returns (true, "").
    const yes = '0x60016000526040602052600060405260606000f3';

    test('an app upgraded to a foreign implementation has no keys until it is back', async () => {
      expect(await verdict(pair, 'app', ofApp())).toEqual(allowed);
      const slot = '0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc';
      const foreign = `0x${'ab'.repeat(20)}` as const;
      await lab.rpc('anvil_setCode', foreign, yes);
      const before = await lab.rpc<Hex>('eth_getStorageAt', contracts.app, slot, 'latest');
      await lab.rpc('anvil_setStorageAt', contracts.app, slot, `0x${foreign.slice(2).padStart(64, '0')}`);
      await lab.rpc('anvil_mine', '0x1');
      expect(await pair.calls.authorize('app', ofApp())).toEqual(allowed);
      expect(await refusal(contracts.app)).toMatch(
        new RegExp(`^App contract implementation ${foreign} is not known \\(code hash 0x[0-9a-f]{64}\\)$`),
      );
      // Our own KMS behind an app's address is no app contract.
      const kms = contracts.kmsImplementation.slice(2).toLowerCase().padStart(64, '0');
      await lab.rpc('anvil_setStorageAt', contracts.app, slot, `0x${kms}`);
      await lab.rpc('anvil_mine', '0x1');
      expect(await refusal(contracts.app)).toContain('is not known');
      for (const word of ['00'.repeat(32), `${'00'.repeat(11)}01${contracts.appImplementation.slice(2)}`]) {
        await lab.rpc('anvil_setStorageAt', contracts.app, slot, `0x${word}`);
        await lab.rpc('anvil_mine', '0x1');
        expect(await refusal(contracts.app)).toContain('App contract has no implementation');
      }
      await lab.rpc('anvil_setStorageAt', contracts.app, slot, before);
      await lab.rpc('anvil_mine', '0x1');
      expect(await verdict(pair, 'app', ofApp())).toEqual(allowed);
    });

    test('an app contract of its own making', async () => {
      const own = `0x${'cd'.repeat(20)}` as const;
      await lab.rpc('anvil_setCode', own, yes);
      await onKms('registerApp', own);
      expect(await refusal(own)).toMatch(/^App contract code is not known \(code hash 0x[0-9a-f]{64}\)$/);
    });

    test('the KMS contract itself, or an implementation without a proxy, as an app', async () => {
      await onKms('registerApp', contracts.kms);
      expect(await refusal(contracts.kms)).toContain('is not known');
      await onKms('registerApp', contracts.appImplementation);
      expect(await refusal(contracts.appImplementation)).toContain('App contract code is not known');
    });

    test('a KMS contract that is none, or another', async () => {
      const nothing = lab.policy(hex(filled(20, 0x99)), { reads: 'proofs' });
      expect(await nothing.authorize('app', ofApp())).toMatchObject({
        allowed: false,
        failure: 'unavailable',
      });
      await expect(nothing.describe()).rejects.toMatchObject({ code: 'chain-mismatch' });
      for (const address of [contracts.app, contracts.kmsImplementation]) {
        const policy = lab.policy(address, { reads: 'proofs' });
        expect(await policy.authorize('app', ofApp())).toMatchObject({
          allowed: false,
          reason: expect.stringMatching(/^KMS contract (implementation 0x\w+|code) is not known/),
          gatewayAppId: '',
        });
        await expect(policy.describe()).rejects.toMatchObject({ code: 'chain-mismatch' });
      }
    });
  });

  test('a KMS upgraded to another address is followed', async () => {
    const { kms, kmsAbi } = contracts;
    expect(await verdict(pair, 'app', ofApp())).toEqual(allowed);
    const { kmsImplementation } = await deployContracts(lab);
    await lab.send(kms, kmsAbi, 'upgradeToAndCall', [kmsImplementation, '0x']);
    expect(await verdict(pair, 'app', ofApp())).toEqual(allowed);
  });

  test('a walk through the states of the policy', async () => {
    const apps = [contracts.app, hex(filled(20, 0x12)), hex(filled(20, 0x13))];
    const [values, flags] = [
      fc.constantFrom(hex(composeHash), hex(deviceId), hex(osImageHash), hex(other)),
      fc.boolean(),
    ];
    const step = fc.oneof(
      fc
        .tuple(
          fc.constantFrom(
            'addOsImageHash',
            'removeOsImageHash',
            'addKmsAggregatedMr',
            'removeKmsAggregatedMr',
            'addKmsDevice',
            'removeKmsDevice',
          ),
          fc.constantFrom(hex(osImageHash), hex(mrAggregated), hex(deviceId)),
        )
        .map(
          ([name, value]) =>
            () =>
              onKms(name, value),
        ),
      fc.constantFrom(...[0, 1, 2]).map((index) => () => onKms('registerApp', apps[index])),
      fc
        .tuple(fc.constantFrom('addComposeHash', 'removeComposeHash', 'addDevice', 'removeDevice'), values)
        .map(
          ([name, value]) =>
            () =>
              onApp(name, value),
        ),
      flags.map((on) => () => onApp('setAllowAnyDevice', on)),
    );
    const question = fc.record({
      kind: fc.constantFrom<BootKind>('app', 'kms'),
      app: fc.nat(2),
      device: fc.constantFrom(deviceId, other, composeHash),
      hash: fc.constantFrom(composeHash, other),
      tcbStatus: fc.constantFrom('UpToDate', 'OutOfDate', ''),
    });
    const seen = new Set<string>();
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 10 }),
        fc.array(question, { minLength: 4, maxLength: 8 }),
        async (steps, questions) => {
          const snapshot = await lab.rpc('evm_snapshot');
          for (const take of steps) {
            await take();
            for (const { kind, app, device, hash, tcbStatus } of questions) {
              const info = facts({
                appId: bytesOf(apps[app]!),
                deviceId: device,
                composeHash: hash,
                tcbStatus,
              });
              seen.add((await verdict(pair, kind, info)).reason);
            }
          }
          await lab.rpc('evm_revert', snapshot);
          await lab.rpc('anvil_mine', '0x1');
        },
      ),
      { numRuns: 15 },
    );
    // The walk went somewhere.
    expect(seen.size).toBeGreaterThan(3);
  }, 60_000);
});

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
