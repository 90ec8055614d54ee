/**
 * What is decided from proven storage is what the contracts decide, in the same words: the EVM of a real node is the
 * oracle.
 */

import type { BootInfo } from '@dstack-cloud/attestation';
import { fromHex } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import type { Hex } from 'viem';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { BootKind } from '../../policy.ts';
import { type ChainLab, deployContracts, type LabContracts, startChainLab } from '../../test/chain-lab.ts';
import { facts, filled } from '../../test/facts.ts';
import { allowed, bytesOf, decide, denied, hex, type Pair } from './test/compare.ts';

const { composeHash, deviceId, mrAggregated, osImageHash } = facts();
const other = filled(32, 0xee);

let lab: ChainLab;
beforeAll(async () => {
  lab = await startChainLab();
}, 60_000);
afterAll(() => lab?.stop());

describe.each([undefined, '0.6'] as const)('our contracts, release %s', (release) => {
  let contracts: LabContracts;
  let pair: Pair;
  let onApp: (name: string, ...args: unknown[]) => Promise<void>;
  let onKms: (name: string, ...args: unknown[]) => Promise<void>;
  beforeAll(async () => {
    contracts = await deployContracts(lab, release);
    const { kms, kmsAbi, app, appAbi } = contracts;
    pair = { calls: lab.policy(kms), proofs: lab.policy(kms, { reads: 'proofs' }) };
    onKms = (name, ...args) => lab.send(kms, kmsAbi, name, args);
    onApp = (name, ...args) => lab.send(app, appAbi, name, args);
  });

  const ofApp = (changes: Partial<BootInfo> = {}): BootInfo =>
    facts({ appId: bytesOf(contracts.app), ...changes });

  test('a KMS: each fault is named in order, then it is allowed, then what is taken away is missing', async () => {
    const ask = (changes: Partial<BootInfo> = {}) => decide(pair, 'kms', facts(changes));
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
    const ask = (changes: Partial<BootInfo> = {}) => decide(pair, 'app', ofApp(changes));
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
    expect(await decide(pair, 'app', facts({ appId }))).toEqual(
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
    expect(await decide(pair, 'app', facts({ appId }))).toEqual(allowed);
    expect(await decide(pair, 'app', facts({ appId, composeHash: other }))).toEqual(
      denied('Compose hash not allowed'),
    );
  });

  test.each([0, 1, 31, 32, 33, 40, 64, 65, 255, 256])('a gateway app id of %i bytes', async (length) => {
    const gateway = 'gateway-'.repeat(32).slice(0, length);
    await onKms('setGatewayAppId', gateway);
    const decision = await decide(pair, 'app', ofApp());
    expect(decision.gatewayAppId).toBe(gateway);
    expect(await pair.proofs.describe()).toEqual(await pair.calls.describe());
  });

  test('a gateway app id in other letters, and none that is too long', async () => {
    await onKms('setGatewayAppId', 'Tür-🚪-'.repeat(9));
    expect((await decide(pair, 'app', ofApp())).gatewayAppId).toBe('Tür-🚪-'.repeat(9));
    for (const length of [257, 1_025, 5_000]) {
      await onKms('setGatewayAppId', 'x'.repeat(length));
      expect(await decide(pair, 'app', ofApp())).toMatchObject({ allowed: false, failure: 'unavailable' });
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
      expect(await decide(pair, 'app', ofApp())).toEqual(allowed);
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
      expect(await decide(pair, 'app', ofApp())).toEqual(allowed);
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
    expect(await decide(pair, 'app', ofApp())).toEqual(allowed);
    const { kmsImplementation } = await deployContracts(lab, release);
    await lab.send(kms, kmsAbi, 'upgradeToAndCall', [kmsImplementation, '0x']);
    expect(await decide(pair, 'app', ofApp())).toEqual(allowed);
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
              seen.add((await decide(pair, kind, info)).reason);
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
