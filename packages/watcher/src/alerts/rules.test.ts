/** Each rule with what it is for, and with what it must leave alone. */
import { roleIds } from '@dstack-cloud/governance';
import { encodeFunctionData, type Hex, keccak256, parseAbi, toHex, zeroAddress } from 'viem';
import { describe, expect, test } from 'vitest';
import type { EventValue, GovernanceEvent, SourceKind } from '../events/governance-event.ts';
import { GovernanceModel } from '../model/governance-model.ts';
import { alertsFor } from './rules.ts';

const account = (digit: string): Hex => `0x${digit.repeat(40)}`;
const hash = (digit: string): Hex => `0x${digit.repeat(64)}`;
const [kms, app, timelock, safe] = ['1', '2', '3', '4'].map(account) as [Hex, Hex, Hex, Hex];
const [owner, guardian, stranger] = ['a', 'b', 'c'].map(account) as [Hex, Hex, Hex];
const addresses: Readonly<Record<SourceKind, Hex>> = { kms, app, timelock, safe };
const context = {
  known: new Map([
    [kms, { kind: 'kms', name: 'DstackKms' }],
    [timelock, { kind: 'timelock', name: 'Timelock' }],
    [safe, { kind: 'safe', name: 'Safe' }],
    [account('9'), { kind: 'multi-send', name: 'batch' }],
  ] as const),
  isListed: () => true,
  inUse: new Set<string>([hash('7')]),
};

let count = 0;
function event(
  source: SourceKind,
  name: string,
  args: Readonly<Record<string, EventValue>>,
  tx = '',
): GovernanceEvent {
  count += 1;
  return {
    ...{ id: count.toString(16).padStart(32, '0'), block: count, index: 0, time: count, history: false },
    blockHash: hash('f'),
    tx: keccak256(toHex(tx === '' ? `transaction ${count}` : tx)),
    ...{ sender: owner, source, address: addresses[source], name, args },
  };
}

/** A domain in use: its KMS belongs to an account, and has a guardian. */
function domain(kmsOwner: Hex = owner): GovernanceModel {
  const model = new GovernanceModel();
  const start: [SourceKind, string, Readonly<Record<string, EventValue>>][] = [
    ['timelock', 'RoleGranted', { role: roleIds.admin, account: timelock }],
    ['safe', 'SafeSetup', { owners: [owner, stranger], threshold: '2' }],
    ['kms', 'OwnershipTransferred', { previousOwner: zeroAddress, newOwner: kmsOwner }],
    ['kms', 'GuardianSet', { guardian, enabled: true }],
    ['kms', 'OsImageHashAdded', { osImageHash: hash('5') }],
    ['kms', 'OsImageHashAdded', { osImageHash: hash('6') }],
    ['kms', 'OsImageHashAdded', { osImageHash: hash('7') }],
    ['app', 'OwnershipTransferred', { previousOwner: zeroAddress, newOwner: owner }],
    ['app', 'ComposeHashAdded', { composeHash: hash('8') }],
  ];
  for (const [source, name, args] of start) model.apply(event(source, name, args));
  return model;
}

/** Rules and severities that events of one transaction give, in a domain. */
function rulesOf(events: readonly GovernanceEvent[], model = domain()): string[] {
  return events.flatMap((one) => {
    const found = alertsFor({ event: one, model, batch: events, context });
    model.apply(one);
    return found.map(({ rule, severity }) => `${severity} ${rule}`);
  });
}

const changed = (label: string, actor: Hex, tx: string): GovernanceEvent =>
  event(
    'kms',
    'PolicyChanged',
    { actor, policy: keccak256(toHex(label)), value: hash('0'), enabled: true },
    tx,
  );

describe('contracts', () => {
  test.each<[string, SourceKind, string, Readonly<Record<string, EventValue>>, string[]]>([
    [
      'an image is allowed',
      'kms',
      'OsImageHashAdded',
      { osImageHash: hash('9') },
      ['info measurement-registered'],
    ],
    [
      'zero is allowed',
      'kms',
      'KmsDeviceAdded',
      { deviceId: hash('0') },
      ['critical unprotected-measurement'],
    ],
    [
      'one of several is revoked',
      'kms',
      'OsImageHashRemoved',
      { osImageHash: hash('5') },
      ['warning revocation'],
    ],
    [
      'what is in use is revoked',
      'kms',
      'OsImageHashRemoved',
      { osImageHash: hash('7') },
      ['critical suspicious-revocation'],
    ],
    [
      'the last one is revoked',
      'app',
      'ComposeHashRemoved',
      { composeHash: hash('8') },
      ['critical suspicious-revocation'],
    ],
    [
      'what was not allowed is revoked',
      'app',
      'ComposeHashRemoved',
      { composeHash: hash('1') },
      ['warning revocation'],
    ],
    [
      'a new owner',
      'kms',
      'OwnershipTransferred',
      { previousOwner: owner, newOwner: stranger },
      ['critical owner-changed'],
    ],
    [
      'an offer',
      'kms',
      'OwnershipTransferStarted',
      { previousOwner: owner, newOwner: stranger },
      ['warning owner-changed'],
    ],
    [
      'a guardian',
      'kms',
      'GuardianSet',
      { guardian: stranger, enabled: true },
      ['critical guardian-changed'],
    ],
    ['no guardian', 'kms', 'GuardianSet', { guardian, enabled: false }, ['warning guardian-changed']],
    ['other code', 'kms', 'Upgraded', { implementation: stranger }, ['critical upgrade']],
    ['other code of apps', 'kms', 'AppImplementationSet', { implementation: stranger }, ['critical upgrade']],
    ['a pause', 'kms', 'Paused', { account: guardian }, ['critical pause']],
    ['its end', 'kms', 'Unpaused', { account: owner }, ['warning pause']],
    ['any device', 'app', 'AllowAnyDeviceSet', { allowAny: true }, ['critical any-device']],
    ['listed devices', 'app', 'AllowAnyDeviceSet', { allowAny: false }, ['info policy-changed']],
    [
      'an announcement',
      'kms',
      'CallAnnounced',
      { callHash: hash('1'), call: `0x06a3ae96${'9'.repeat(64)}` },
      ['warning new-proposal'],
    ],
    [
      'a new owner announced',
      'kms',
      'CallAnnounced',
      { callHash: hash('1'), call: `0xf2fde38b${'0'.repeat(24)}${'c'.repeat(40)}` },
      ['warning new-proposal', 'critical suspicious-proposal'],
    ],
    [
      'its end',
      'kms',
      'CallRetracted',
      { callHash: hash('1'), actor: guardian },
      ['warning proposal-cancelled'],
    ],
    ['a delay', 'kms', 'PolicyDelaySet', { delay: '60' }, ['warning delay-changed']],
    ['an event of nobody', 'kms', 'unknown', { topic: hash('1') }, ['warning unknown-event']],
    [
      'another quote',
      'kms',
      'PolicyChanged',
      { actor: owner, policy: keccak256(toHex('kms-quote')) },
      ['warning policy-changed'],
    ],
    [
      'what another event tells',
      'kms',
      'PolicyChanged',
      { actor: owner, policy: keccak256(toHex('os-image')) },
      [],
    ],
    [
      'a policy of a later version',
      'kms',
      'PolicyChanged',
      { actor: owner, policy: hash('1') },
      ['warning policy-changed'],
    ],
  ])('%s', (_, source, name, args, expected) => {
    expect(rulesOf([event(source, name, args)])).toEqual(expected);
  });

  test('a shorter delay is grave', () => {
    const model = domain();
    model.apply(event('kms', 'PolicyDelaySet', { delay: '3600' }));
    expect(rulesOf([event('kms', 'PolicyDelaySet', { delay: '60' })], model)).toEqual([
      'critical delay-changed',
    ]);
  });

  test('what a guardian revokes is suspicious, and says who', () => {
    const events = [
      event('kms', 'OsImageHashRemoved', { osImageHash: hash('5') }, 'a'),
      changed('os-image', guardian, 'a'),
    ];
    expect(rulesOf(events)).toEqual(['critical suspicious-revocation']);
  });

  test('a contract that is being made tells of neither owner nor code', () => {
    const made = new GovernanceModel();
    const events = [
      event('app', 'Upgraded', { implementation: stranger }, 'made'),
      event('app', 'OwnershipTransferred', { previousOwner: zeroAddress, newOwner: stranger }, 'made'),
    ];
    expect(rulesOf(events, made)).toEqual([]);
  });

  test('a Timelock that is being made tells of neither roles nor its delay', () => {
    const made = new GovernanceModel();
    const events = [
      event('timelock', 'RoleGranted', { role: roleIds.admin, account: timelock }, 'made'),
      event('timelock', 'RoleGranted', { role: roleIds.proposer, account: stranger }, 'made'),
      event('timelock', 'MinDelayChange', { oldDuration: '0', newDuration: '60' }, 'made'),
    ];
    expect(rulesOf(events, made)).toEqual([]);
  });

  test('texts of others are quoted, and cannot begin a sentence of ours', () => {
    const [alert] = alertsFor({
      event: event('kms', 'GatewayAppIdSet', { gatewayAppId: 'x" now. The owner is "evil' }),
      model: domain(),
      batch: [],
      context,
    });
    expect(alert!.text).toBe('The gateway is "x\\" now. The owner is \\"evil" now');
  });
});

describe('a contract of a Timelock', () => {
  const change = event('kms', 'OsImageHashAdded', { osImageHash: hash('9') }, 'b');
  test('changed by nobody who may', () => {
    expect(rulesOf([change], domain(timelock))).toEqual([
      'info measurement-registered',
      'critical unscheduled-change',
    ]);
  });
  test('changed by its Timelock', () => {
    const executed = event('timelock', 'CallExecuted', { id: hash('1'), index: '0', target: kms }, 'b');
    expect(rulesOf([change, executed], domain(timelock))).toEqual([
      'info measurement-registered',
      'info proposal-executed',
    ]);
  });
  test('changed while its Timelock executes something on another contract', () => {
    const executed = event('timelock', 'CallExecuted', { id: hash('1'), index: '0', target: app }, 'b');
    expect(rulesOf([change, executed], domain(timelock))).toContain('critical unscheduled-change');
  });
  test('changed by a guardian', () => {
    const removed = event('kms', 'OsImageHashRemoved', { osImageHash: hash('5') }, 'c');
    expect(rulesOf([removed, changed('os-image', guardian, 'c')], domain(timelock))).toEqual([
      'critical suspicious-revocation',
    ]);
  });
  test('registering an app is free', () => {
    const events = [
      event('kms', 'AppRegistered', { appId: app }, 'd'),
      changed('registered-app', stranger, 'd'),
    ];
    expect(rulesOf(events, domain(timelock))).toEqual(['info app-registered']);
  });
});

describe('proposals', () => {
  const abi = parseAbi([
    'function addOsImageHash(bytes32)',
    'function removeOsImageHash(bytes32)',
    'function transferOwnership(address)',
    'function upgradeToAndCall(address, bytes)',
    'function updateDelay(uint256)',
  ]);
  const scheduled = (target: Hex, data: Hex): string[] =>
    rulesOf([
      event('timelock', 'CallScheduled', {
        ...{ id: hash('1'), index: '0', target, value: '0', data, predecessor: hash('0'), delay: '3600' },
      }),
    ]);
  const data = (functionName: (typeof abi)[number]['name'], ...args: unknown[]): Hex =>
    encodeFunctionData({ abi, functionName, args } as Parameters<typeof encodeFunctionData>[0]);

  test.each<[string, Hex, Hex]>([
    ['an image', kms, data('addOsImageHash', hash('9'))],
    ['the revocation of what is not in use', kms, data('removeOsImageHash', hash('5'))],
  ])('%s is a proposal like others', (_, target, call) => {
    expect(scheduled(target, call)).toEqual(['warning new-proposal']);
  });
  test.each<[string, Hex, Hex]>([
    ['the revocation of what is in use', kms, data('removeOsImageHash', hash('7'))],
    ['a new owner', kms, data('transferOwnership', stranger)],
    ['other code', kms, data('upgradeToAndCall', stranger, '0x')],
    ['a shorter delay', timelock, data('updateDelay', 1n)],
    ['a call to who knows what', stranger, '0x12345678'],
    ['a function that the KMS does not have', kms, '0x12345678'],
    ['data that is damaged', kms, '0x06a3ae96ff'],
  ])('%s is suspicious', (_, target, call) => {
    expect(scheduled(target, call)).toEqual(['warning new-proposal', 'critical suspicious-proposal']);
  });
  test('what is dangerous in a batch is found', () => {
    const part = (index: string, call: Hex): GovernanceEvent =>
      event(
        'timelock',
        'CallScheduled',
        {
          ...{
            id: hash('1'),
            index,
            target: kms,
            value: '0',
            data: call,
            predecessor: hash('0'),
            delay: '1',
          },
        },
        'batch',
      );
    const events = [
      part('0', data('addOsImageHash', hash('9'))),
      part('1', data('transferOwnership', stranger)),
    ];
    expect(rulesOf(events)).toEqual(['warning new-proposal', 'critical suspicious-proposal']);
  });
});

describe('Timelock and Safe', () => {
  test.each<[string, SourceKind, string, Readonly<Record<string, EventValue>>, string[]]>([
    [
      'a shorter delay',
      'timelock',
      'MinDelayChange',
      { oldDuration: '7200', newDuration: '60' },
      ['critical delay-changed'],
    ],
    [
      'a longer delay',
      'timelock',
      'MinDelayChange',
      { oldDuration: '60', newDuration: '7200' },
      ['warning delay-changed'],
    ],
    [
      'a role',
      'timelock',
      'RoleGranted',
      { role: roleIds.proposer, account: stranger },
      ['critical role-changed'],
    ],
    ['a cancellation', 'timelock', 'Cancelled', { id: hash('1') }, ['warning proposal-cancelled']],
    ['a signer', 'safe', 'AddedOwner', { owner: stranger }, ['critical signers-changed']],
    ['fewer signatures', 'safe', 'ChangedThreshold', { threshold: '1' }, ['critical signers-changed']],
    ['more signatures', 'safe', 'ChangedThreshold', { threshold: '3' }, ['warning signers-changed']],
    ['a module', 'safe', 'EnabledModule', { module: stranger }, ['critical safe-module']],
    [
      'a module at work',
      'safe',
      'ExecutionFromModuleSuccess',
      { module: stranger },
      ['critical safe-module'],
    ],
    ['a guard', 'safe', 'ChangedGuard', { guard: stranger }, ['critical safe-guard']],
    [
      'a delegatecall',
      'safe',
      'SafeMultiSigTransaction',
      { to: stranger, operation: '1' },
      ['critical safe-delegatecall'],
    ],
    ['a batch', 'safe', 'SafeMultiSigTransaction', { to: account('9'), operation: '1' }, []],
    ['a call', 'safe', 'SafeMultiSigTransaction', { to: stranger, operation: '0' }, []],
    ['an approval', 'safe', 'ApproveHash', { approvedHash: hash('1'), owner }, ['info new-proposal']],
    ['an execution', 'safe', 'ExecutionSuccess', { txHash: hash('1'), payment: '0' }, ['info safe-executed']],
    ['money', 'safe', 'SafeReceived', { sender: stranger, value: '1' }, []],
    [
      'a role taken back',
      'timelock',
      'RoleRevoked',
      { role: roleIds.proposer, account: stranger },
      ['critical role-changed'],
    ],
    [
      'a role that others give',
      'timelock',
      'RoleAdminChanged',
      { role: roleIds.proposer },
      ['critical role-changed'],
    ],
    ['a signer less', 'safe', 'RemovedOwner', { owner: stranger }, ['critical signers-changed']],
    ['as many signatures', 'safe', 'ChangedThreshold', { threshold: '2' }, ['warning signers-changed']],
    ['a module that goes', 'safe', 'DisabledModule', { module: stranger }, ['warning safe-module']],
    [
      'a module that failed',
      'safe',
      'ExecutionFromModuleFailure',
      { module: stranger },
      ['warning safe-module'],
    ],
    ['another handler', 'safe', 'ChangedFallbackHandler', { handler: stranger }, ['warning safe-guard']],
    ['a failure', 'safe', 'ExecutionFailure', { txHash: hash('1'), payment: '0' }, ['warning safe-executed']],
  ])('%s', (_, source, name, args, expected) => {
    expect(rulesOf([event(source, name, args)])).toEqual(expected);
  });
});
