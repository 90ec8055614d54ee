import { type Address, zeroAddress } from 'viem';
import { describe, expect, test } from 'vitest';
import type { GovernanceFile } from '../governance-file.ts';
import type { SafeState } from '../safe/read-safe.ts';
import type { ContractState } from '../state/read-contract-state.ts';
import type { Governance, Principal } from '../state/read-governance.ts';
import type { TimelockState } from '../timelock/read-timelock.ts';
import { checkHealth, worstLevel } from './check-health.ts';
import type { HealthFacts, HealthLevel } from './health-row.ts';

const at = (digit: string): Address => `0x${digit.repeat(40)}`;
const [KMS, TIMELOCK, SAFE, A, B, C, GUARDIAN, STRANGER] = ['1', '2', '3', '4', '5', '6', '7', '8'].map(
  at,
) as [Address, Address, Address, Address, Address, Address, Address, Address];
const NOW = 1_800_000_000n;
const DAY = 86_400n;
const code = `0x${'aa'.repeat(32)}` as const;

const kms: ContractState = {
  ...{ kind: 'kms', address: KMS, owner: TIMELOCK, pendingOwner: undefined, implementation: at('9') },
  ...{
    implementationHash: code,
    policyEpoch: 1n,
    guardians: [GUARDIAN],
    paused: false,
    policyDelay: DAY,
    policyDelaySince: NOW - DAY,
    appImplementation: at('a'),
  },
  ...{ upgradesDisabled: undefined, allowAnyDevice: undefined },
};
const timelock: TimelockState = {
  ...{ address: TIMELOCK, minDelay: 2n * DAY, gracePeriod: 0n, isOpen: false, operations: [] },
  roles: { proposer: [SAFE], canceller: [SAFE], executor: [SAFE], admin: [TIMELOCK] },
};
const safe: SafeState = {
  ...{ address: SAFE, version: '1.4.1', owners: [A, B, C], threshold: 2, nonce: 0n, modules: [] },
  ...{ guard: undefined, fallbackHandler: undefined, singleton: at('b') },
};
const expected: GovernanceFile = {
  ...{
    version: 1,
    model: 'C',
    chainId: 1,
    complete: true,
    fromBlock: 0,
    kms: KMS,
    apps: [],
    guardians: [GUARDIAN],
  },
  ...{ timelock: TIMELOCK, minDelay: Number(2n * DAY), proposer: SAFE, executor: SAFE, safe: SAFE },
  ...{ signers: [A, B, C], threshold: 2, made: {} },
};

type Change = {
  kms?: Partial<ContractState>;
  timelock?: Partial<TimelockState>;
  roles?: Partial<TimelockState['roles']>;
  safe?: Partial<SafeState>;
  facts?: Partial<HealthFacts>;
};

function facts(change: Change = {}): HealthFacts {
  const roles = { ...timelock.roles, ...change.roles };
  const principals: Principal[] = [
    { kind: 'timelock', address: TIMELOCK, timelock: { ...timelock, ...change.timelock, roles } },
    { kind: 'safe', address: SAFE, safe: { ...safe, ...change.safe } },
    { kind: 'account', address: GUARDIAN },
    { kind: 'account', address: STRANGER },
  ];
  const governance: Governance = {
    ...{ chainId: 1, block: { number: 1n, hash: code, timestamp: NOW }, kms: { ...kms, ...change.kms } },
    ...{
      apps: [],
      otherApps: [],
      principals: new Map(principals.map((one) => [one.address.toLowerCase(), one])),
    },
  };
  return {
    ...{ governance, expected, knownCode: new Map([[code, 'dstack-kms-3']]), appImplementationHash: code },
    ...{ safeCode: new Map([[SAFE, true]]), balances: new Map([[GUARDIAN, 10n]]), minBalance: 5n },
    ...{ expiries: [], liveComposeHashes: new Map(), isProduction: false },
    ...change.facts,
  };
}

const operation = (state: 'ready' | 'expired', readyAt: bigint): TimelockState['operations'][number] => ({
  ...{ id: code, state, readyAt, delay: DAY, expiresAt: undefined, calls: [], predecessor: code, salt: code },
  ...{ isBatch: false, scheduledIn: { block: 1n, transaction: code } },
});

describe('the health check', () => {
  test('is well as it was deployed', () => {
    const rows = checkHealth(facts());
    expect(rows.filter(({ level }) => level !== 'ok')).toEqual([]);
    expect(worstLevel(rows)).toBe('ok');
  });

  const cases: [string, string, HealthLevel, Change][] = [
    ['another owner', 'owner', 'critical', { kms: { owner: STRANGER } }],
    ['an offered ownership', 'pending-owner', 'warning', { kms: { pendingOwner: STRANGER } }],
    ['unknown code', 'implementation', 'critical', { kms: { implementationHash: `0x${'bb'.repeat(32)}` } }],
    ['unknown code of apps', 'app-implementation', 'critical', { facts: { appImplementationHash: '0x' } }],
    ['no code of apps', 'app-implementation', 'warning', { kms: { appImplementation: zeroAddress } }],
    ['a missing guardian', 'guardians', 'warning', { kms: { guardians: [] } }],
    ['one guardian more', 'guardians', 'warning', { kms: { guardians: [GUARDIAN, STRANGER] } }],
    ['a pause', 'paused', 'warning', { kms: { paused: true } }],
    ['a shorter delay', 'delay', 'critical', { timelock: { minDelay: DAY } }],
    ['another admin', 'admin', 'critical', { roles: { admin: [TIMELOCK, STRANGER] } }],
    ['another proposer', 'proposer', 'critical', { roles: { proposer: [SAFE, STRANGER] } }],
    ['another canceller', 'canceller', 'critical', { roles: { canceller: [SAFE, STRANGER] } }],
    ['no executor', 'executor', 'critical', { roles: { executor: [] } }],
    [
      'an open executor',
      'executor',
      'critical',
      { roles: { executor: [zeroAddress] }, timelock: { isOpen: true } },
    ],
    [
      'what nobody executes',
      'queue',
      'warning',
      { timelock: { operations: [operation('ready', NOW - 2n * DAY)] } },
    ],
    ['what has expired', 'queue', 'warning', { timelock: { operations: [operation('expired', 5n)] } }],
    ['another code of the Safe', 'safe-code', 'critical', { facts: { safeCode: new Map([[SAFE, false]]) } }],
    ['a Safe nobody looked at', 'safe-code', 'unknown', { facts: { safeCode: new Map() } }],
    ['a lower threshold', 'threshold', 'critical', { safe: { threshold: 1 } }],
    ['another signer', 'signers', 'warning', { safe: { owners: [A, B, STRANGER] } }],
    ['a module', 'modules', 'critical', { safe: { modules: [STRANGER] } }],
    ['a guard', 'guard', 'warning', { safe: { guard: STRANGER } }],
    ['a poor guardian', 'balance', 'warning', { facts: { balances: new Map([[GUARDIAN, 1n]]) } }],
    [
      'an end within days',
      'expiries',
      'warning',
      { facts: { expiries: [{ what: 'x', notAfter: NOW + DAY }] } },
    ],
    ['many old versions', 'compose-hashes', 'warning', { facts: { liveComposeHashes: new Map([[KMS, 3]]) } }],
    [
      'no policy delay where there is real value',
      'policy-delay',
      'warning',
      { kms: { policyDelay: 0n }, facts: { isProduction: true } },
    ],
    ['a policy delay that just began', 'policy-delay', 'warning', { kms: { policyDelaySince: NOW - 1n } }],
    ['other code since the delay was set', 'policy-delay', 'critical', { kms: { policyDelaySince: 0n } }],
    ['few signers for real value', 'signers', 'warning', { facts: { isProduction: true } }],
  ];
  test.each(cases)('finds %s', (_, check, level, change) => {
    const rows = checkHealth(facts(change));
    expect(rows.filter((row) => row.check === check && row.level !== 'ok').map((row) => row.level)).toContain(
      level,
    );
    expect(worstLevel(rows)).not.toBe('ok');
  });

  test('an end that is far or over is none to warn of', () => {
    const expiries = [NOW - 1n, NOW + 15n * DAY].map((notAfter) => ({ what: 'x', notAfter }));
    expect(worstLevel(checkHealth(facts({ facts: { expiries } })))).toBe('ok');
  });

  test('without a file, a single account that proposes is found on its own', () => {
    const rows = checkHealth(
      facts({ roles: { proposer: [STRANGER] }, facts: { expected: undefined, isProduction: true } }),
    );
    expect(rows).toContainEqual(expect.objectContaining({ check: 'proposer', level: 'critical' }));
  });
});
