/**
 * Every function that changes something, as a proposal: whether it is suspicious, however it is proposed. What each
 * suspicious one is told apart from stands beside it.
 */
import { dstackAppAbi, dstackKmsAbi } from '@dstack-cloud/contracts';
import { encodeMultiSend, roleIds, safeAbi, safeTx, timelockAbi } from '@dstack-cloud/governance';
import { type Abi, type AbiFunction, encodeFunctionData, type Hex, zeroAddress, zeroHash } from 'viem';
import { describe, expect, test } from 'vitest';
import type { GovernanceEvent } from '../events/governance-event.ts';
import { GovernanceModel } from '../model/governance-model.ts';
import { alertsFor } from './rules.ts';
import { waitingAlerts } from './service-alerts.ts';

const account = (digit: string): Hex => `0x${digit.repeat(40)}`;
const hash = (digit: string): Hex => `0x${digit.repeat(64)}`;
const [kms, app, timelock, safe, multiSend] = ['1', '2', '3', '4', '9'].map(account) as [
  Hex,
  Hex,
  Hex,
  Hex,
  Hex,
];
const [stranger, tenant] = [account('c'), account('d')];
const IN_USE = hash('7');
const DEBUG = '0x81c611f35bff79491538b2f7cf201c7597a661a5c549633541c62bdc8af1613f';
const NO_DEVICE = '0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const context = {
  known: new Map([
    [kms, { kind: 'kms', name: 'DstackKms' }],
    [app, { kind: 'app', name: 'our app' }],
    [tenant, { kind: 'app', name: 'app of a tenant' }],
    [timelock, { kind: 'timelock', name: 'Timelock' }],
    [safe, { kind: 'safe', name: 'Safe' }],
    [multiSend, { kind: 'multi-send', name: 'batch' }],
  ] as const),
  isListed: (address: string) => address !== tenant,
  inUse: new Set<string>([IN_USE]),
};

const targets = { kms, app, timelock, safe } as const;
const abis: Readonly<Record<keyof typeof targets, Abi>> = {
  kms: dstackKmsAbi as Abi,
  app: dstackAppAbi as Abi,
  timelock: timelockAbi as Abi,
  safe: safeAbi as Abi,
};
type Case = readonly [target: keyof typeof targets, functionName: string, ...args: unknown[]];
const dataOf = ([target, functionName, ...args]: Case): Hex =>
  encodeFunctionData({ abi: abis[target], functionName, args });

const shared = (target: 'kms' | 'app'): Case[] => [
  [target, 'transferOwnership', stranger],
  [target, 'setAdmin', stranger],
  [target, 'startOwnershipTransfer', stranger],
  [target, 'acceptOwnership'],
  [target, 'renounceOwnership'],
  [target, 'setGuardian', stranger, true],
  [target, 'setGuardian', stranger, false],
  [target, 'setPolicyDelay', 0n],
  [target, 'upgradeToAndCall', stranger, '0x'],
  [target, 'upgradeTo', stranger],
];

const SUSPICIOUS: readonly Case[] = [
  ...shared('kms'),
  ...shared('app'),
  ['kms', 'initialize', stranger, zeroAddress],
  ['kms', 'setAppImplementation', stranger],
  ['kms', 'setGatewayAppId', 'x'],
  ['kms', 'pause'],
  ['kms', 'blockApp', app],
  ['kms', 'removeOsImageHash', IN_USE],
  ['kms', 'removeMeasurement', IN_USE],
  ['kms', 'removeKmsAggregatedMr', IN_USE],
  ['kms', 'removeKmsDevice', IN_USE],
  ['kms', 'addOsImageHash', DEBUG],
  ['kms', 'addMeasurement', DEBUG],
  ['kms', 'addOsImageHashUntil', DEBUG, 1n],
  ['kms', 'addOsImageHash', zeroHash],
  ['kms', 'addKmsAggregatedMr', zeroHash],
  ['kms', 'addKmsDevice', NO_DEVICE],
  ['app', 'initialize', stranger, false, false, zeroHash, zeroHash],
  ['app', 'setKms', stranger],
  ['app', 'setAllowAnyDevice', true],
  ['app', 'disableUpgrades'],
  ['app', 'removeComposeHash', IN_USE],
  ['app', 'removeDevice', IN_USE],
  ['app', 'replaceComposeHash', IN_USE, hash('5'), 0n],
  ['app', 'replaceComposeHash', hash('5'), DEBUG, 60n],
  ['app', 'addComposeHash', DEBUG],
  ['app', 'addComposeHashUntil', zeroHash, 1n],
  ['app', 'addDevice', NO_DEVICE],
  ['timelock', 'grantRole', roleIds.proposer, stranger],
  ['timelock', 'revokeRole', roleIds.canceller, safe],
  ['timelock', 'renounceRole', roleIds.executor, safe],
  ['timelock', 'updateDelay', 0n],
  ['safe', 'setup', [stranger], 1n, zeroAddress, '0x', zeroAddress, zeroAddress, 0n, zeroAddress],
  ['safe', 'addOwnerWithThreshold', stranger, 1n],
  ['safe', 'removeOwner', stranger, account('a'), 1n],
  ['safe', 'swapOwner', stranger, account('a'), account('b')],
  ['safe', 'changeThreshold', 1n],
  ['safe', 'enableModule', stranger],
  ['safe', 'disableModule', stranger, account('a')],
  ['safe', 'setGuard', stranger],
  ['safe', 'setFallbackHandler', stranger],
];

const LIKE_OTHERS: readonly Case[] = [
  ['kms', 'addOsImageHash', hash('5')],
  ['kms', 'addMeasurement', hash('5')],
  ['kms', 'addOsImageHashUntil', IN_USE, 1n],
  ['kms', 'addKmsAggregatedMr', hash('5')],
  ['kms', 'addKmsDevice', hash('5')],
  ['kms', 'removeOsImageHash', hash('5')],
  ['kms', 'removeMeasurement', hash('5')],
  ['kms', 'removeKmsAggregatedMr', hash('5')],
  ['kms', 'removeKmsDevice', hash('5')],
  ['kms', 'blockApp', tenant],
  ['kms', 'unblockApp', app],
  ['kms', 'unpause'],
  ['kms', 'registerApp', stranger],
  ['kms', 'deployAndRegisterApp', stranger, false, true, zeroHash, zeroHash],
  ['kms', 'deployAndRegisterAppDeterministic', zeroHash, stranger, false, false, true, zeroHash, zeroHash],
  ['kms', 'setAppPolicyExpiry', app, 1n],
  ['kms', 'denyAdvisory', 'INTEL-SA-1'],
  ['kms', 'allowAdvisory', 'INTEL-SA-1'],
  ['kms', 'setKmsInfo', { k256Pubkey: '0x', caPubkey: '0x', quote: '0x', eventlog: '0x' }],
  ['kms', 'setKmsQuote', '0x'],
  ['kms', 'setKmsEventlog', '0x'],
  ['kms', 'retract', hash('5')],
  ['app', 'retract', hash('5')],
  ['app', 'addComposeHash', hash('5')],
  ['app', 'addComposeHashUntil', hash('5'), 1n],
  ['app', 'replaceComposeHash', IN_USE, hash('5'), 60n],
  ['app', 'replaceComposeHash', hash('6'), hash('5'), 0n],
  ['app', 'removeComposeHash', hash('5')],
  ['app', 'addDevice', hash('5')],
  ['app', 'removeDevice', hash('5')],
  ['app', 'setAllowAnyDevice', false],
  ['app', 'setRequireTcbUpToDate', true],
  ['app', 'setRequireTcbUpToDate', false],
  ['timelock', 'cancel', hash('5')],
  ['safe', 'approveHash', hash('5')],
];

/** Functions that pass calls on: these are looked at. */
const CARRIERS = [
  ...['multicall', 'announce', 'schedule', 'scheduleBatch', 'execute', 'executeBatch', 'execTransaction'],
];

const inner: Case = ['kms', 'addOsImageHash', hash('5')];
const scheduled = (target: Hex, data: Hex, index = '0'): GovernanceEvent => ({
  ...{ id: index.padStart(32, '0'), block: 1, blockHash: hash('f'), index: 0, time: 1, tx: hash('e') },
  ...{ sender: stranger, source: 'timelock', address: timelock, name: 'CallScheduled', history: false },
  args: { id: hash('1'), index, target, value: '0', data, predecessor: zeroHash, delay: '3600' },
});
function rulesOf(events: readonly GovernanceEvent[]): string[] {
  const model = new GovernanceModel();
  return events.flatMap((event) => {
    const found = alertsFor({ event, model, batch: events, context });
    model.apply(event);
    return found.map(({ rule, severity }) => `${severity} ${rule}`);
  });
}
function rulesOfSafe(to: Hex, data: Hex, operation: 0 | 1 = 0): string[] {
  const tx = { ...safeTx({ to, value: 0n, data }, 1n), operation };
  const waiting = [{ safe, hash: hash('a'), tx, signers: [], approvedBy: [], since: 0 }];
  return waitingAlerts(waiting, new GovernanceModel(), 0, 60, context).map(
    ({ rule, severity }) => `${severity} ${rule}`,
  );
}

/** How a call can be proposed. */
const WAYS: Readonly<Record<string, (target: Hex, data: Hex) => string[]>> = {
  'in a Timelock': (target, data) => rulesOf([scheduled(target, data)]),
  'as the second of a batch in a Timelock': (target, data) =>
    rulesOf([scheduled(kms, dataOf(inner)), scheduled(target, data, '1')]),
  'by a Safe': (target, data) => rulesOfSafe(target, data),
  'by a Safe to a Timelock': (target, data) =>
    rulesOfSafe(timelock, dataOf(['timelock', 'schedule', target, 0n, data, zeroHash, zeroHash, 60n])),
  'by a Safe in a batch': (target, data) => {
    const calls = [
      { to: kms, value: 0n, data: dataOf(inner) },
      { to: target, value: 0n, data },
    ];
    return rulesOfSafe(multiSend, encodeMultiSend(calls), 1);
  },
};

const nameOf = ([target, name, ...args]: Case): string =>
  `${target}.${name}(${args.map((value) => (typeof value === 'object' ? '…' : String(value).slice(0, 8))).join()})`;

describe.each(Object.entries(WAYS))('%s', (_, rules) => {
  test.each(SUSPICIOUS.map((one) => [nameOf(one), one] as const))('%s is suspicious', (__, one) => {
    expect(rules(targets[one[0]], dataOf(one))).toEqual([
      'warning new-proposal',
      'critical suspicious-proposal',
    ]);
  });
  test.each(LIKE_OTHERS.map((one) => [nameOf(one), one] as const))('%s is like others', (__, one) => {
    expect(rules(targets[one[0]], dataOf(one))).toEqual(['warning new-proposal']);
  });
  test('a call to nobody known, or that cannot be decoded, is suspicious', () => {
    for (const [target, data] of [
      [stranger, '0x12345678'],
      [kms, '0x12345678'],
      [app, `${dataOf(['app', 'addDevice', hash('5')])}ff`.slice(0, 40)],
    ] as [Hex, Hex][])
      expect(rules(target, data)).toContain('critical suspicious-proposal');
  });
});

test.each<['kms' | 'app', Hex]>([
  ['kms', kms],
  ['app', app],
])('inside announce and multicall of %s the same calls are suspicious', (kind, target) => {
  for (const one of [...SUSPICIOUS, ...LIKE_OTHERS].filter(([on]) => on === kind)) {
    const expected = SUSPICIOUS.includes(one)
      ? ['warning new-proposal', 'critical suspicious-proposal']
      : ['warning new-proposal'];
    for (const carrier of [
      [kind, 'multicall', [dataOf(one)]],
      [kind, 'announce', dataOf(one)],
    ] satisfies Case[])
      expect(rulesOf([scheduled(target, dataOf(carrier))]), nameOf(one)).toEqual(expected);
  }
});

test('a delegatecall of a Safe is told, but for the batch contract', () => {
  const data = encodeMultiSend([{ to: kms, value: 0n, data: dataOf(inner) }]);
  expect(rulesOfSafe(multiSend, data, 1)).toEqual(['warning new-proposal']);
  expect(rulesOfSafe(stranger, data, 1)).toContain('critical safe-delegatecall');
  expect(rulesOfSafe(kms, dataOf(inner), 1)).toContain('critical safe-delegatecall');
});

test('no function that changes something is missing here', () => {
  const here = new Set([...SUSPICIOUS, ...LIKE_OTHERS].map(([target, name]) => `${target}.${name}`));
  const all = Object.entries(abis).flatMap(([target, abi]) =>
    abi
      .filter((item): item is AbiFunction => item.type === 'function')
      .filter(({ stateMutability }) => stateMutability === 'nonpayable' || stateMutability === 'payable')
      .filter(({ name }) => !CARRIERS.includes(name))
      .map(({ name }) => `${target}.${name}`),
  );
  expect(all.filter((name) => !here.has(name))).toEqual([]);
  expect(all.length).toBeGreaterThan(50);
});
