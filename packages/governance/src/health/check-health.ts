import { type Address, isAddressEqual, zeroAddress } from 'viem';
import type { GovernanceFile } from '../governance-file.ts';
import type { SafeState } from '../safe/read-safe.ts';
import type { Principal } from '../state/read-governance.ts';
import type { TimelockState } from '../timelock/read-timelock.ts';
import { durationText, timeText } from '../words/sentences.ts';
import type { HealthFacts, HealthLevel, HealthRow } from './health-row.ts';
import { policyDelayRow } from './policy-delay-row.ts';

const DAY = 86_400n;
const STALE = DAY;
const SOON = 14n * DAY;
/** Seconds: on networks with real value, and on others. */
const LEAST_DELAY = { production: DAY, test: 3_600n };

/** Every row of the health check. */
export function checkHealth(facts: HealthFacts): HealthRow[] {
  const { governance, expected } = facts;
  const { kms, apps, principals } = governance;
  const rows: HealthRow[] = [];
  for (const contract of [kms, ...apps]) {
    const name = contract.kind === 'kms' ? 'DstackKms' : `app ${contract.address}`;
    rows.push(ownerRow(name, contract.owner, principals.get(contract.owner.toLowerCase()), expected));
    if (contract.pendingOwner !== undefined) {
      rows.push({
        ...{ check: 'pending-owner', level: 'warning', found: contract.pendingOwner },
        text: `${name}: an ownership transfer to ${contract.pendingOwner} waits to be accepted`,
      });
    }
    const release = facts.knownCode.get(contract.implementationHash);
    rows.push(
      release === undefined
        ? {
            ...{ check: 'implementation', level: 'critical', found: contract.implementationHash },
            text: `${name}: its code is of no known release: find out who replaced it`,
          }
        : { check: 'implementation', level: 'ok', text: `${name}: its code is ${release}` },
    );
    rows.push(...guardianRows(name, contract.guardians, expected), policyDelayRow(name, contract, facts));
    if (contract.upgradesDisabled === true) {
      rows.push({ check: 'upgrades', level: 'ok', text: `${name}: its code is fixed for ever` });
    }
    const live = facts.liveComposeHashes.get(contract.address.toLowerCase());
    if (live !== undefined && live > 2) {
      rows.push({
        ...{ check: 'compose-hashes', level: 'warning', found: String(live), expected: 'at most 2' },
        text: `${name}: ${live} compose hashes may have its keys: revoke old ones`,
      });
    }
  }
  rows.push(appImplementationRow(facts), pausedRow(kms.paused));
  for (const principal of principals.values()) {
    if (principal.kind === 'timelock') rows.push(...timelockRows(principal.timelock, facts));
    if (principal.kind === 'safe') rows.push(...safeRows(principal.safe, facts));
  }
  rows.push(...balanceRows(facts), ...expiryRows(facts));
  return rows;
}

function ownerRow(
  name: string,
  owner: Address,
  principal: Principal | undefined,
  expected: GovernanceFile | undefined,
): HealthRow {
  const wanted = expected?.timelock ?? expected?.safe ?? expected?.owner;
  if (wanted !== undefined && !isAddressEqual(wanted, owner)) {
    return {
      ...{ check: 'owner', level: 'critical', expected: wanted, found: owner },
      text: `${name}: the owner is another than was deployed: find out who changed it`,
    };
  }
  if (principal?.kind === 'timelock')
    return { check: 'owner', level: 'ok', text: `${name}: owned by Timelock ${owner}` };
  if (principal?.kind === 'safe') {
    return {
      check: 'owner',
      level: 'warning',
      text: `${name}: owned by Safe ${owner}: changes have no delay`,
    };
  }
  if (principal?.kind === 'account') {
    const level = expected?.model === 'A' ? 'warning' : 'critical';
    return {
      check: 'owner',
      level,
      text: `${name}: owned by one account, ${owner}: whoever has its key can do everything`,
    };
  }
  return {
    check: 'owner',
    level: 'unknown',
    text: `${name}: owned by ${owner}, a contract that is neither a Timelock nor a Safe`,
  };
}

function guardianRows(
  name: string,
  guardians: readonly Address[],
  expected: GovernanceFile | undefined,
): HealthRow[] {
  const check = 'guardians';
  const wanted = expected?.guardians ?? [];
  const has = (list: readonly Address[], one: Address): boolean =>
    list.some((other) => isAddressEqual(other, one));
  const missing = wanted.filter((one) => !has(guardians, one));
  const more = expected === undefined ? [] : guardians.filter((one) => !has(wanted, one));
  if (missing.length > 0) {
    return [{ check, level: 'warning', text: `${name}: ${missing.join(', ')} is no guardian any more` }];
  }
  if (more.length > 0) {
    return [
      {
        check,
        level: 'warning',
        text: `${name}: ${more.join(', ')} is a guardian who was not deployed as one`,
      },
    ];
  }
  if (guardians.length > 0)
    return [{ check, level: 'ok', text: `${name}: ${guardians.length} guardians may revoke at once` }];
  return [
    { check, level: 'warning', text: `${name}: no guardian: a revocation waits as long as an addition` },
  ];
}

function appImplementationRow({ governance, knownCode, appImplementationHash }: HealthFacts): HealthRow {
  const check = 'app-implementation';
  const { appImplementation } = governance.kms;
  if (appImplementation === undefined || appImplementation === zeroAddress) {
    return {
      check,
      level: 'warning',
      text: 'DstackKms: no code for apps is set, so that its factory makes none',
    };
  }
  const release = knownCode.get(appImplementationHash ?? '');
  if (release !== undefined) return { check, level: 'ok', text: `DstackKms: future apps have ${release}` };
  return {
    ...{ check, level: 'critical', found: appImplementation },
    text: 'DstackKms: the code of future apps is of no known release: set another',
  };
}

function pausedRow(paused: boolean | undefined): HealthRow {
  const check = 'paused';
  if (paused === true)
    return { check, level: 'warning', text: 'DstackKms is paused: nothing gets keys until unpause' };
  if (paused === false) return { check, level: 'ok', text: 'DstackKms is not paused' };
  return { check, level: 'ok', text: 'DstackKms is of the 0.6 line, which cannot be paused' };
}

function timelockRows(
  timelock: TimelockState,
  { governance, expected, isProduction }: HealthFacts,
): HealthRow[] {
  const { address, minDelay, roles, operations, isOpen } = timelock;
  const rows: HealthRow[] = [];
  const is = expected?.timelock !== undefined && isAddressEqual(expected.timelock, address);
  const least = isProduction ? LEAST_DELAY.production : LEAST_DELAY.test;
  const wanted = is && expected.minDelay !== undefined ? BigInt(expected.minDelay) : undefined;
  const delay = { check: 'delay', found: durationText(minDelay) };
  if (wanted !== undefined && minDelay < wanted) {
    rows.push({
      ...{ ...delay, level: 'critical', expected: durationText(wanted) },
      text: `Timelock: its delay is ${durationText(minDelay)}, and was deployed with ${durationText(wanted)}`,
    });
  } else if (minDelay < least) {
    rows.push({
      ...{ ...delay, level: 'warning', expected: `at least ${durationText(least)}` },
      text: `Timelock: its delay of ${durationText(minDelay)} leaves little time to notice a change`,
    });
  } else rows.push({ check: 'delay', level: 'ok', text: `Timelock: changes wait ${durationText(minDelay)}` });

  const strangers = roles.admin.filter((one) => !isAddressEqual(one, address));
  rows.push(
    strangers.length > 0
      ? {
          ...{
            check: 'admin',
            level: 'critical',
            expected: 'the Timelock itself alone',
            found: strangers.join(', '),
          },
          text: `Timelock: ${strangers.join(', ')} can change its roles without delay`,
        }
      : { check: 'admin', level: 'ok', text: 'Timelock: only itself can change its roles, with delay' },
  );
  for (const role of ['proposer', 'canceller', 'executor'] as const) {
    const asDeployed = role === 'executor' ? expected?.executor : expected?.proposer;
    const others = is && asDeployed ? roles[role].filter((one) => !isAddressEqual(one, asDeployed)) : [];
    const lacks = is && asDeployed && !roles[role].some((one) => isAddressEqual(one, asDeployed));
    const people = roles[role].filter(
      (one) => governance.principals.get(one.toLowerCase())?.kind === 'account',
    );
    if (others.length > 0 || lacks) {
      rows.push({
        ...{
          check: role,
          level: 'critical',
          expected: asDeployed ?? '',
          found: roles[role].join(', ') || 'nobody',
        },
        text: `Timelock: its ${role}s are not those that were deployed`,
      });
    } else if (roles[role].length === 0) {
      rows.push({ check: role, level: 'critical', text: `Timelock: it has no ${role}` });
    } else if (role === 'proposer' && people.length > 0) {
      const level = isProduction ? 'critical' : 'warning';
      rows.push({
        check: role,
        level,
        text: `Timelock: the single account ${people.join(', ')} proposes alone`,
      });
    } else {
      const who = role === 'executor' && isOpen ? 'anybody' : roles[role].join(', ');
      rows.push({ check: role, level: 'ok', text: `Timelock: ${role} is ${who}` });
    }
  }
  const now = governance.block.timestamp;
  const stale = operations.filter(
    ({ state, readyAt }) => state === 'ready' && now - (readyAt ?? now) > STALE,
  );
  const expired = operations.filter(({ state }) => state === 'expired');
  for (const { id, readyAt } of stale) {
    rows.push({
      ...{ check: 'queue', level: 'warning' },
      text: `Timelock: operation ${id} is ready since ${timeText(readyAt ?? 0n)}: execute or cancel it`,
    });
  }
  for (const { id } of expired) {
    rows.push({ check: 'queue', level: 'warning', text: `Timelock: operation ${id} has expired: cancel it` });
  }
  if (stale.length + expired.length === 0) {
    rows.push({ check: 'queue', level: 'ok', text: 'Timelock: nothing is left over in its queue' });
  }
  return rows;
}

function safeRows(safe: SafeState, { expected, safeCode, isProduction }: HealthFacts): HealthRow[] {
  const { address, owners, threshold, modules, guard } = safe;
  const rows: HealthRow[] = [];
  const name = `Safe ${address}`;
  const is = expected?.safe !== undefined && isAddressEqual(expected.safe, address);
  const known = safeCode.get(address.toLowerCase());
  rows.push(
    known === true
      ? { check: 'safe-code', level: 'ok', text: `${name}: its code is Safe ${safe.version}` }
      : {
          check: 'safe-code',
          level: known === undefined ? 'unknown' : 'critical',
          text: `${name}: its code is not that of Safe 1.4.1`,
        },
  );
  const least = Math.ceil((2 * owners.length) / 3);
  const figures = {
    expected: `at least ${least} of ${owners.length}`,
    found: `${threshold} of ${owners.length}`,
  };
  if (is && expected.threshold !== undefined && threshold < expected.threshold) {
    rows.push({
      check: 'threshold',
      level: 'critical',
      ...figures,
      text: `${name}: it asks for fewer signatures than were deployed`,
    });
  } else if (threshold < least) {
    rows.push({
      check: 'threshold',
      level: 'warning',
      ...figures,
      text: `${name}: ${threshold} of ${owners.length} signers decide: fewer than two thirds`,
    });
  } else
    rows.push({
      check: 'threshold',
      level: 'ok',
      text: `${name}: ${threshold} of ${owners.length} signers decide`,
    });
  const [fewest, most] = isProduction ? [5, 7] : [2, 7];
  if (owners.length < fewest || owners.length > most) {
    rows.push({
      ...{
        check: 'signers',
        level: 'warning',
        expected: `${fewest} to ${most}`,
        found: String(owners.length),
      },
      text: `${name}: it has ${owners.length} signers`,
    });
  }
  const signers = is ? expected.signers : undefined;
  const changed = signers?.filter((one) => !owners.some((owner) => isAddressEqual(owner, one))) ?? [];
  const added =
    signers === undefined ? [] : owners.filter((one) => !signers.some((other) => isAddressEqual(other, one)));
  if (changed.length + added.length > 0) {
    rows.push({
      ...{
        check: 'signers',
        level: 'warning',
        expected: (signers ?? []).join(', '),
        found: owners.join(', '),
      },
      text: `${name}: its signers are not those that were deployed: if that was you, correct the governance file`,
    });
  }
  rows.push(
    modules.length > 0
      ? {
          check: 'modules',
          level: 'critical',
          found: modules.join(', '),
          text: `${name}: modules act for it without signatures`,
        }
      : { check: 'modules', level: 'ok', text: `${name}: no module can act for it` },
  );
  rows.push(
    guard === undefined
      ? { check: 'guard', level: 'ok', text: `${name}: no guard can stop it` }
      : {
          check: 'guard',
          level: 'warning',
          found: guard,
          text: `${name}: the guard ${guard} can refuse its transactions`,
        },
  );
  return rows;
}

/** Accounts that have to pay for a transaction some day: guardians, and executors that are accounts. */
function balanceRows({ governance, balances, minBalance }: HealthFacts): HealthRow[] {
  const rows: HealthRow[] = [];
  for (const [key, balance] of balances) {
    if (balance >= minBalance) continue;
    const address = governance.principals.get(key)?.address ?? key;
    rows.push({
      ...{
        check: 'balance',
        level: 'warning',
        expected: `at least ${minBalance} wei`,
        found: `${balance} wei`,
      },
      text: `${address} cannot pay for a transaction when it is needed`,
    });
  }
  return rows.length > 0 || balances.size === 0
    ? rows
    : [{ check: 'balance', level: 'ok', text: 'Guardians and executors can pay for a transaction' }];
}

function expiryRows({ governance, expiries }: HealthFacts): HealthRow[] {
  const now = governance.block.timestamp;
  const due = expiries.filter(({ notAfter }) => notAfter >= now && notAfter - now < SOON);
  if (due.length === 0) return [{ check: 'expiries', level: 'ok', text: 'No allowance ends within 14 days' }];
  return due.map(({ what, notAfter }) => ({
    ...{ check: 'expiries', level: 'warning' as const },
    text: `${what} ends ${timeText(notAfter)}`,
  }));
}

/** The gravest level of all rows; `unknown` weighs as a warning. */
export function worstLevel(rows: readonly HealthRow[]): HealthLevel {
  for (const level of ['critical', 'warning', 'unknown'] as const) {
    if (rows.some((row) => row.level === level)) return level;
  }
  return 'ok';
}
