/**
 * A KMS that demands a delay: what a stolen owner key can do, by calls and by proofs, on a real node. Each decision is
 * asked of both, and both must say the same.
 */
import { readFileSync } from 'node:fs';
import type { BootInfo } from '@dstack-cloud/attestation';
import { compile, loadArtifact } from '@dstack-cloud/contracts';
import { type Abi, encodeFunctionData, type Hex, keccak256, parseAbi, zeroAddress, zeroHash } from 'viem';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { outageReason } from '../outage-reasons.ts';
import type { Decision } from '../policy.ts';
import { type ChainLab, deployContracts, type LabContracts, startChainLab } from '../test/chain-lab.ts';
import { facts, filled } from '../test/facts.ts';
import { startLyingRelay } from '../test/lying-relay.ts';
import { IMPLEMENTATION_SLOT } from './contracts/slots.ts';
import { allowed, bytesOf, decide, denied, hex, type Pair } from './proof/test/compare.ts';

const DELAY = 86_400;
const { composeHash, deviceId, mrAggregated, osImageHash } = facts();
const malicious = filled(32, 0xee);
const IMAGE_DENIED = denied('OS image is not allowed');

let lab: ChainLab;
let contracts: LabContracts;
let pair: Pair;
let proposer: Hex;
let guardian: Hex;
let initial: string;
beforeAll(async () => {
  lab = await startChainLab();
  contracts = await deployContracts(lab);
  [proposer, guardian] = (await lab.rpc<Hex[]>('eth_accounts')).slice(2) as [Hex, Hex];
  for (const [name, ...args] of [
    ['registerApp', contracts.app],
    ['addOsImageHash', hex(osImageHash)],
    ['addKmsAggregatedMr', hex(mrAggregated)],
    ['addKmsDevice', hex(deviceId)],
    ['setGuardian', guardian, true],
  ] as const)
    await onKms(name, ...args);
  await onApp('addComposeHash', hex(composeHash));
  await onApp('setAllowAnyDevice', true);
  initial = await lab.rpc('evm_snapshot');
}, 120_000);
afterAll(() => lab?.stop());

const policies = (options: object = {}, kms: Hex = contracts.kms): Pair => ({
  calls: lab.policy(kms, { requireTimelockSeconds: DELAY, ...options }),
  proofs: lab.policy(kms, { requireTimelockSeconds: DELAY, reads: 'proofs', ...options }),
});
const onKms = (name: string, ...args: unknown[]): Promise<void> =>
  lab.send(contracts.kms, contracts.kmsAbi, name, args);
const onApp = (name: string, ...args: unknown[]): Promise<void> =>
  lab.send(contracts.app, contracts.appAbi, name, args);
const callOf = (name: string, ...args: unknown[]): Hex =>
  encodeFunctionData({ abi: contracts.kmsAbi, functionName: name, args });
const announce = (name: string, ...args: unknown[]): Promise<void> =>
  onKms('announce', callOf(name, ...args));
const wait = async (seconds: number): Promise<void> => {
  await lab.rpc('evm_increaseTime', seconds);
  await lab.rpc('anvil_mine', '0x1');
};
const time = async (): Promise<number> =>
  Number((await lab.rpc<{ timestamp: Hex }>('eth_getBlockByNumber', 'latest', false)).timestamp);
const ask = (changes: Partial<BootInfo> = {}): Promise<Decision> =>
  decide(pair, 'app', facts({ appId: bytesOf(contracts.app), ...changes }));
const askKms = (): Promise<Decision> => decide(pair, 'kms', facts());
/** Everything is armed, and for long enough. */
const arm = async (): Promise<void> => {
  await onKms('setPolicyDelay', DELAY);
  await onApp('setPolicyDelay', DELAY);
  await wait(DELAY);
};

/** Each test begins with contracts that allow one workload and have no delay. */
beforeEach(async () => {
  await lab.rpc('evm_revert', initial);
  initial = await lab.rpc('evm_snapshot');
  // A policy refuses to go back to a lower head.
  pair = policies();
});

describe('the delay of the contracts', () => {
  test('none, a shorter one and a new one do not do; what was there before the setting counts in the end', async () => {
    expect(await ask()).toEqual(denied(`KMS contract has no policy delay of ${DELAY} s`));
    expect(await askKms()).toEqual(denied(`KMS contract has no policy delay of ${DELAY} s`));
    await onKms('setPolicyDelay', DELAY - 1);
    expect(await ask()).toEqual(denied(`KMS contract has no policy delay of ${DELAY} s`));
    await onKms('setPolicyDelay', DELAY);
    const since = await time();
    const recent = (contract: string, from: number): string =>
      `${contract} contract has its policy delay of ${DELAY} s only since ${from}: it counts from ${from + DELAY} on`;
    expect(await ask()).toEqual(denied(recent('KMS', since)));
    await lab.rpc('evm_setNextBlockTimestamp', since + DELAY - 1);
    await lab.rpc('anvil_mine', '0x1');
    expect(await askKms()).toEqual(denied(recent('KMS', since)));
    await wait(1);
    expect(await askKms()).toEqual(allowed);
    expect(await ask()).toEqual(denied(`App contract has no policy delay of ${DELAY} s`));
    await onApp('setPolicyDelay', DELAY);
    expect(await ask()).toEqual(denied(recent('App', await time())));
    await wait(DELAY);
    expect(await ask()).toEqual(allowed);
    // A reason of the contracts comes first.
    expect(await ask({ osImageHash: malicious })).toEqual(IMAGE_DENIED);
  });

  test('without the setting nothing is demanded', async () => {
    pair = policies({ requireTimelockSeconds: undefined });
    expect(await ask()).toEqual(allowed);
  });

  test('raising it leaves no gap; lowering it is a loosening', async () => {
    await arm();
    await onKms('setPolicyDelay', 3 * DELAY);
    expect(await ask()).toEqual(allowed);
    await onKms('setPolicyDelay', 4 * DELAY);
    expect(await ask()).toEqual(allowed);
    await expect(onKms('setPolicyDelay', DELAY)).rejects.toThrow('reverted');
    await announce('setPolicyDelay', DELAY - 1);
    await wait(4 * DELAY);
    await onKms('setPolicyDelay', DELAY - 1);
    expect(await ask()).toEqual(denied(`KMS contract has no policy delay of ${DELAY} s`));
    // Up again at once: what happened meanwhile waits.
    await onKms('setPolicyDelay', DELAY);
    expect((await ask()).reason).toMatch(/^KMS contract has its policy delay of 86400 s only since /);
  });

  test('an app of the factory has it from its first entries on', async () => {
    await arm();
    const args = [lab.owner, false, true, zeroHash, hex(composeHash)];
    const created = await lab.rpc<Hex>(
      'eth_call',
      { from: lab.owner, to: contracts.kms, data: callOf('deployAndRegisterApp', ...args) },
      'latest',
    );
    await onKms('deployAndRegisterApp', ...args);
    const info = facts({ appId: bytesOf(`0x${created.slice(26)}`) });
    expect((await decide(pair, 'app', info)).reason).toMatch(/^App contract has its policy delay of .* only/);
    await wait(DELAY);
    expect(await decide(pair, 'app', info)).toEqual(allowed);
  });
});

describe('a stolen owner key', () => {
  test('adds an image: not before the delay, then once', async () => {
    await arm();
    await expect(onKms('addOsImageHash', hex(malicious))).rejects.toThrow('reverted');
    await announce('addOsImageHash', hex(malicious));
    await wait(DELAY - 10);
    await expect(onKms('addOsImageHash', hex(malicious))).rejects.toThrow('reverted');
    // In a batch, as another function of the same effect, as another image.
    await expect(
      onKms('multicall', [callOf('addMeasurement', hex(malicious)), callOf('unpause')]),
    ).rejects.toThrow('reverted');
    expect(await ask({ osImageHash: malicious })).toEqual(IMAGE_DENIED);
    await wait(10);
    await onKms('addOsImageHash', hex(malicious));
    expect(await ask({ osImageHash: malicious })).toEqual(allowed);
    await expect(onKms('addOsImageHash', hex(malicious))).rejects.toThrow('reverted');
  });

  test('adds again what a guardian removed: the removal counts at once, and the addition waits anew', async () => {
    await arm();
    await announce('addOsImageHash', hex(malicious));
    await wait(DELAY);
    await onKms('addOsImageHash', hex(malicious));
    await lab.send(contracts.kms, contracts.kmsAbi, 'removeOsImageHash', [hex(malicious)], guardian);
    expect(await ask({ osImageHash: malicious })).toEqual(IMAGE_DENIED);
    await expect(onKms('addOsImageHash', hex(malicious))).rejects.toThrow('reverted');
  });

  test('an announcement that a guardian takes back, or that is too old, is none', async () => {
    await arm();
    const call = callOf('addOsImageHash', hex(malicious));
    await onKms('announce', call);
    await lab.send(contracts.kms, contracts.kmsAbi, 'retract', [keccak256(call)], guardian);
    await wait(DELAY);
    await expect(onKms('addOsImageHash', hex(malicious))).rejects.toThrow('reverted');
    await onKms('announce', call);
    await wait(DELAY + 14 * 86_400 + 1);
    await expect(onKms('addOsImageHash', hex(malicious))).rejects.toThrow('reverted');
    await expect(lab.send(contracts.kms, contracts.kmsAbi, 'announce', [call], lab.stranger)).rejects.toThrow(
      'reverted',
    );
  });

  test.each([
    ['setGuardian', () => [guardian, false]],
    ['setPolicyDelay', () => [0]],
    ['addKmsAggregatedMr', () => [hex(malicious)]],
    ['addKmsDevice', () => [hex(malicious)]],
    ['addMeasurement', () => [hex(malicious)]],
    ['addOsImageHashUntil', () => [hex(malicious), 0]],
    ['setAppPolicyExpiry', () => [contracts.app, 0]],
    ['unblockApp', () => [contracts.app]],
    ['allowAdvisory', () => ['INTEL-SA-00837']],
    ['unpause', () => []],
    ['setGatewayAppId', () => ['another']],
    ['setAppImplementation', () => [contracts.appImplementation]],
    ['upgradeTo', () => [contracts.kmsImplementation]],
    ['upgradeToAndCall', () => [contracts.kmsImplementation, '0x']],
  ] as const)('cannot call %s of DstackKms at once', async (name, args) => {
    await arm();
    await expect(onKms(name, ...args())).rejects.toThrow('reverted');
    await announce(name, ...args());
    await wait(DELAY);
    await onKms(name, ...args());
  });

  test.each([
    ['addComposeHash', () => [hex(malicious)]],
    ['addComposeHashUntil', () => [hex(malicious), 0]],
    ['replaceComposeHash', () => [hex(composeHash), hex(malicious), 60]],
    ['addDevice', () => [hex(malicious)]],
    ['setAllowAnyDevice', () => [true]],
    ['setRequireTcbUpToDate', () => [false]],
    ['setKms', () => [zeroAddress]],
    ['setGuardian', () => [guardian, false]],
    ['setPolicyDelay', () => [0]],
    ['upgradeToAndCall', () => [contracts.appImplementation, '0x']],
  ] as const)('cannot call %s of DstackApp at once', async (name, args) => {
    await arm();
    await expect(onApp(name, ...args())).rejects.toThrow('reverted');
    await onApp('announce', encodeFunctionData({ abi: contracts.appAbi, functionName: name, args: args() }));
    await wait(DELAY);
    await onApp(name, ...args());
  });

  test('can take away at once', async () => {
    await arm();
    await onKms('setGuardian', lab.stranger, true);
    await onKms('setAppPolicyExpiry', contracts.app, (await time()) + 100);
    await onKms('setAppPolicyExpiry', contracts.app, (await time()) + 50);
    await onApp('setAllowAnyDevice', false);
    expect(await ask()).toEqual(denied('Device not allowed'));
    await onApp('removeComposeHash', hex(composeHash));
    expect(await ask()).toEqual(denied('Compose hash not allowed'));
    await onKms('denyAdvisory', 'INTEL-SA-00837');
    expect(await ask()).toEqual(denied('Advisory is denied'));
    await onKms('pause');
    expect(await ask()).toEqual(denied('KMS contract is paused'));
  });

  test('gives the contract away and takes it back: whoever has it waits', async () => {
    await arm();
    await onKms('transferOwnership', lab.stranger);
    const add = [contracts.kms, contracts.kmsAbi, 'addOsImageHash', [hex(malicious)], lab.stranger] as const;
    await expect(lab.send(...add)).rejects.toThrow('reverted');
    await lab.send(contracts.kms, contracts.kmsAbi, 'transferOwnership', [lab.owner], lab.stranger);
    await expect(onKms('addOsImageHash', hex(malicious))).rejects.toThrow('reverted');
    expect(await ask()).toEqual(allowed);
  });
});

describe('DstackTimelock', () => {
  const timelockAbi = parseAbi([
    'function schedule(address target, uint256 value, bytes data, bytes32 predecessor, bytes32 salt, uint256 delay)',
    'function execute(address target, uint256 value, bytes payload, bytes32 predecessor, bytes32 salt) payable',
  ]);
  const deploy = (minDelay: number): Promise<Hex> =>
    lab.deploy(loadArtifact('DstackTimelock'), [minDelay, [proposer], [zeroAddress], zeroAddress, 0]);
  const operation = (name: string, ...args: unknown[]) =>
    [contracts.kms, 0n, callOf(name, ...args), zeroHash, zeroHash] as const;
  const schedule = (timelock: Hex, delay: number, ...call: [string, ...unknown[]]): Promise<void> =>
    lab.send(timelock, timelockAbi as Abi, 'schedule', [...operation(...call), delay], proposer);
  const execute = (timelock: Hex, ...call: [string, ...unknown[]]): Promise<void> =>
    lab.send(timelock, timelockAbi as Abi, 'execute', operation(...call), lab.stranger);

  test('its own delay counts: what it executes is there at once', async () => {
    await arm();
    const timelock = await deploy(DELAY);
    await onKms('transferOwnership', timelock);
    await schedule(timelock, DELAY, 'addOsImageHash', hex(malicious));
    await wait(DELAY - 10);
    await expect(execute(timelock, 'addOsImageHash', hex(malicious))).rejects.toThrow('reverted');
    await wait(10);
    await execute(timelock, 'addOsImageHash', hex(malicious));
    expect(await ask({ osImageHash: malicious })).toEqual(allowed);
  });

  test('a shorter delay of it does not shorten that of the contract', async () => {
    await arm();
    const timelock = await deploy(1);
    await onKms('transferOwnership', timelock);
    await schedule(timelock, 1, 'addOsImageHash', hex(malicious));
    await wait(DELAY - 10);
    await expect(execute(timelock, 'addOsImageHash', hex(malicious))).rejects.toThrow('reverted');
    await wait(10);
    await execute(timelock, 'addOsImageHash', hex(malicious));
  });

  test('what it scheduled before it was the owner counts from then on alone', async () => {
    await arm();
    const timelock = await deploy(1);
    await schedule(timelock, 1, 'addOsImageHash', hex(malicious));
    await wait(10 * DELAY);
    // The thief has the Timelock prepared for long, and gets the key now.
    await onKms('transferOwnership', timelock);
    await expect(execute(timelock, 'addOsImageHash', hex(malicious))).rejects.toThrow('reverted');
    await wait(DELAY);
    await execute(timelock, 'addOsImageHash', hex(malicious));
  });
});

describe('other code', () => {
  let foreign: { abi: Abi; bytecode: Hex };
  beforeAll(() => {
    const source = 'foreign-code.sol';
    const directory = `${import.meta.dirname}/test`;
    const text = readFileSync(`${directory}/${source}`, 'utf8');
    const { abi, evm } = compile(new Map([[source, text]]), directory).get(`${source}:ForeignCode`)!;
    foreign = { abi, bytecode: `0x${evm.bytecode.object}` };
  });

  test('an upgrade to it waits, and then nothing is allowed', async () => {
    await arm();
    const code = await lab.deploy(foreign);
    await expect(onKms('upgradeTo', code)).rejects.toThrow('reverted');
    await announce('upgradeTo', code);
    await wait(DELAY - 10);
    await expect(onKms('upgradeTo', code)).rejects.toThrow('reverted');
    expect(await ask()).toEqual(allowed);
    await wait(10);
    await onKms('upgradeTo', code);
    const { allowed: calls } = await pair.calls.authorize('app', facts({ appId: bytesOf(contracts.app) }));
    const { allowed: proofs } = await pair.proofs.authorize('app', facts({ appId: bytesOf(contracts.app) }));
    expect([calls, proofs]).toEqual([false, false]);
    // Back in the known code, what the other may have written does not count …
    const write = (slot: bigint, value: bigint): Promise<void> =>
      lab.send(contracts.kms, foreign.abi, 'write', [slot, value]);
    await write(IMPLEMENTATION_SLOT, BigInt(contracts.kmsImplementation));
    expect(await ask()).toEqual(denied(`KMS contract has no policy delay of ${DELAY} s`));
    // … until the owner has set the delay again, and it has passed.
    await onKms('setPolicyDelay', DELAY);
    expect((await ask()).reason).toMatch(/only since/);
    await wait(DELAY);
    expect(await ask()).toEqual(allowed);
  });

  test('an upgrade to code that has a delay too is no gap', async () => {
    await arm();
    const next = await lab.deploy(loadArtifact('DstackKms'));
    await announce('upgradeTo', next);
    await wait(DELAY);
    await onKms('upgradeTo', next);
    expect(await ask()).toEqual(allowed);
    await expect(onKms('addOsImageHash', hex(malicious))).rejects.toThrow('reverted');
  });

  test('an app with it, or without a proxy, has no keys', async () => {
    await arm();
    const code = await lab.deploy(foreign);
    for (const app of [code, await lab.proxy(code)]) {
      await onKms('registerApp', app);
      const info = facts({ appId: bytesOf(app) });
      const [calls, proofs] = await Promise.all([
        pair.calls.authorize('app', info),
        pair.proofs.authorize('app', info),
      ]);
      expect([calls.allowed, proofs.allowed]).toEqual([false, false]);
      expect(calls.reason).toMatch(/^App contract (code|implementation \w+) is not known/);
      expect(proofs.reason).toBe(calls.reason);
    }
  });

  test('of the 0.6 line cannot have a delay', async () => {
    const old = await deployContracts(lab, '0.6');
    const onOld = (name: string, ...args: unknown[]) => lab.send(old.kms, old.kmsAbi, name, args);
    await onOld('addOsImageHash', hex(osImageHash));
    await onOld('addKmsAggregatedMr', hex(mrAggregated));
    await onOld('addKmsDevice', hex(deviceId));
    expect(await decide(policies({}, old.kms), 'kms', facts())).toEqual(
      denied('KMS contract cannot have a policy delay (dstack-kms-0.6)'),
    );
  });
});

describe('the chain', () => {
  test('that says it is tomorrow is not believed', async () => {
    await arm();
    const now = await time();
    const tight = policies({ maxClockSkewSeconds: 120, now: () => now });
    const info = facts({ appId: bytesOf(contracts.app) });
    expect(await decide(tight, 'app', info)).toEqual(allowed);
    await announce('addOsImageHash', hex(malicious));
    await wait(DELAY);
    await onKms('addOsImageHash', hex(malicious));
    expect((await decide(tight, 'app', { ...info, osImageHash: malicious })).reason).toBe(outageReason.ahead);
  });

  test('that reorganises to a branch without the delay allows nothing there', async () => {
    const before = await lab.rpc('evm_snapshot');
    await arm();
    expect(await ask()).toEqual(allowed);
    await lab.rpc('evm_revert', before);
    // A longer one, and as late.
    await lab.rpc('anvil_mine', '0x20');
    await wait(DELAY + 500);
    expect(await ask()).toEqual(denied(`KMS contract has no policy delay of ${DELAY} s`));
  });

  test('with an endpoint that lies about code: a quorum decides, or nobody', async () => {
    await arm();
    const [lie, honest] = [await startLyingRelay(lab.url), await startLyingRelay(lab.url)];
    lie.lie = ({ method, result }) => (method === 'eth_getCode' ? `${String(result)}00` : undefined);
    const info = facts({ appId: bytesOf(contracts.app) });
    const three = lab.policy(contracts.kms, {
      requireTimelockSeconds: DELAY,
      rpcUrls: [lab.url, lie.url, honest.url],
    });
    expect(await three.authorize('app', info)).toEqual(allowed);
    const two = lab.policy(contracts.kms, { requireTimelockSeconds: DELAY, rpcUrls: [lab.url, lie.url] });
    expect(await two.authorize('app', info)).toMatchObject({ allowed: false, failure: 'no-quorum' });
    await Promise.all([lie.close(), honest.close()]);
  });
});
