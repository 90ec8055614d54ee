import { durationText, isUnprotected, timeText } from '@dstack-cloud/governance';
import { keccak256, toHex, zeroAddress } from 'viem';
import type { GovernanceEvent } from '../events/governance-event.ts';
import { argument, seconds } from '../model/apply-contract.ts';
import type { Allowance } from '../model/model.ts';
import type { Severity } from './alert.ts';
import { actorOf, type Finding, isBeingMade, type Occurrence } from './occurrence.ts';
import { callInWords, proposal } from './proposal.ts';

type Say = (event: GovernanceEvent) => string;
type Row = { readonly rule: string; readonly severity: Severity; readonly say: Say };

const row = (rule: string, severity: Severity, say: Say): Row => ({ rule, severity, say });
const a = argument;
const until = (event: GovernanceEvent): string => {
  const end = a(event, 'notAfter');
  return end === '0' ? 'without an end' : `until ${timeText(BigInt(end))}`;
};

/** Events that are told as they are. Those without a line here are told by others, or change nothing. */
const ROWS: Readonly<Record<string, Row>> = {
  OwnershipTransferStarted: row(
    'owner-changed',
    'warning',
    (e) => `The ownership is offered to ${a(e, 'newOwner')}`,
  ),
  Upgraded: row('upgrade', 'critical', (e) => `The code is ${a(e, 'implementation')} now`),
  AppImplementationSet: row(
    'upgrade',
    'critical',
    (e) => `Apps of the factory get the code ${a(e, 'implementation')} from now on`,
  ),
  Paused: row('pause', 'critical', () => 'The KMS is paused: nothing is allowed'),
  Unpaused: row('pause', 'warning', () => 'The pause of the KMS has ended'),
  AppRegistered: row('app-registered', 'info', (e) => `App ${a(e, 'appId')} is registered`),
  AppBlocked: row('app-blocked', 'warning', (e) => `App ${a(e, 'appId')} is blocked`),
  AppUnblocked: row('app-blocked', 'warning', (e) => `App ${a(e, 'appId')} is not blocked any more`),
  AppPolicyExpirySet: row('expiry', 'info', (e) => `App ${a(e, 'appId')} may have keys ${until(e)}`),
  OsImageExpirySet: row('expiry', 'info', (e) => `OS image ${a(e, 'osImageHash')} is allowed ${until(e)}`),
  ComposeHashExpirySet: row(
    'expiry',
    'info',
    (e) => `Compose hash ${a(e, 'composeHash')} is allowed ${until(e)}`,
  ),
  AdvisoryDenied: row(
    'advisory',
    'warning',
    (e) => `Platforms with advisory ${quoted(a(e, 'advisoryId'))} are denied`,
  ),
  AdvisoryAllowed: row(
    'advisory',
    'warning',
    (e) => `Platforms with advisory ${quoted(a(e, 'advisoryId'))} are accepted again`,
  ),
  GatewayAppIdSet: row(
    'policy-changed',
    'warning',
    (e) => `The gateway is ${quoted(a(e, 'gatewayAppId'))} now`,
  ),
  KmsInfoSet: row(
    'policy-changed',
    'warning',
    (e) => `The published root key is ${a(e, 'k256Pubkey').slice(0, 140)} now`,
  ),
  UpgradesDisabled: row('policy-changed', 'warning', () => 'The code can never be replaced any more'),
  RequireTcbUpToDateSet: row('policy-changed', 'warning', (e) =>
    e.args['required'] === true ? 'The TCB has to be up to date' : 'The TCB need not be up to date any more',
  ),
  KmsSet: row('policy-changed', 'critical', (e) => `The KMS of the app is ${a(e, 'newKms')} now`),
  CallRetracted: row(
    'proposal-cancelled',
    'warning',
    (e) => `The announcement of call ${a(e, 'callHash')} is taken back`,
  ),
  unknown: row(
    'unknown-event',
    'warning',
    (e) => `An event that this program does not know (${a(e, 'topic')})`,
  ),
};

const WHAT: Readonly<Record<string, string>> = {
  OsImageHash: 'OS image',
  KmsAggregatedMr: 'KMS measurement',
  KmsDevice: 'KMS device',
  ComposeHash: 'Compose hash',
  Device: 'Device',
};

/** Labels of PolicyChanged that no other event tells of. */
const SILENT = new Map(
  Object.entries({
    'kms-quote': 'Another quote of the KMS is published',
    'kms-eventlog': 'Another event log of the KMS is published',
  }).map(([label, text]) => [keccak256(toHex(label)), text]),
);
const TOLD = new Set(
  [
    ...['os-image', 'kms-aggregated-mr', 'kms-device', 'registered-app', 'blocked-app', 'denied-advisory'],
    ...['paused', 'os-image-expiry', 'app-expiry', 'app-implementation', 'gateway-app-id', 'kms-info'],
    ...['guardian', 'implementation-upgrade', 'compose-hash', 'compose-hash-expiry', 'device'],
    ...['allow-any-device', 'require-tcb-up-to-date', 'upgrades-disabled', 'kms', 'policy-delay'],
  ].map((label) => keccak256(toHex(label))),
);

/** Label of the change that anybody can make. */
export const REGISTERED: string = keccak256(toHex('registered-app'));

/** Labels of PolicyChanged that are known here, as the contracts have them. */
export const POLICIES: ReadonlySet<string> = new Set([...SILENT.keys(), ...TOLD]);

/** What DstackKms and DstackApp tell. */
export function contractRule(occurrence: Occurrence): Finding[] {
  const { event } = occurrence;
  const on = event.source === 'kms' ? '' : `App ${event.address}: `;
  const say = ({ text, ...rest }: Finding): Finding => ({ ...rest, text: `${on}${text}` });
  return findings(occurrence).map(say);
}

function findings(occurrence: Occurrence): Finding[] {
  const { event, model } = occurrence;
  const { name } = event;
  const [, what = '', verb] = /^(\w+)(Added|Removed)$/.exec(name) ?? [];
  if (Object.hasOwn(WHAT, what)) {
    const value = String(Object.values(event.args)[0] ?? '');
    return verb === 'Added' ? [registered(what, value)] : [revoked(occurrence, what, value)];
  }
  if (name === 'OwnershipTransferred') {
    const [before, after] = [a(event, 'previousOwner'), a(event, 'newOwner')];
    if (before === zeroAddress && isBeingMade(occurrence)) return [];
    return [
      { rule: 'owner-changed', severity: 'critical', text: `The owner is ${after} now, and was ${before}` },
    ];
  }
  if (name === 'GuardianSet') {
    const isOne = event.args['enabled'] === true;
    const text = `${a(event, 'guardian')} is ${isOne ? 'a guardian' : 'no guardian any more'}`;
    return [{ rule: 'guardian-changed', severity: isOne ? 'critical' : 'warning', text }];
  }
  if (name === 'AllowAnyDeviceSet') {
    return event.args['allowAny'] === true
      ? [{ rule: 'any-device', severity: 'critical', text: 'Any machine may run the app now' }]
      : [{ rule: 'policy-changed', severity: 'info', text: 'Only listed machines may run the app now' }];
  }
  // A new proxy says which code and which KMS it has.
  if (['Upgraded', 'KmsSet', 'PolicyDelaySet'].includes(name) && isBeingMade(occurrence)) return [];
  if (name === 'CallAnnounced') {
    const call = callInWords(
      { target: event.address, value: '0', data: a(event, 'call') },
      occurrence.context.known,
    );
    const what = `Call ${a(event, 'callHash')} is announced`;
    return proposal(what, 'to be made after the delay of the contract', [call], occurrence.context);
  }
  if (name === 'PolicyDelaySet') {
    const { policyDelay: before } = event.source === 'kms' ? model.kms : model.app(event.address);
    const after = seconds(a(event, 'delay'));
    const text = `Loosening the policy has to be announced ${durationText(BigInt(after))} before, and had to be ${durationText(BigInt(before))}`;
    return [{ rule: 'delay-changed', severity: after < before ? 'critical' : 'warning', text }];
  }
  if (name === 'PolicyChanged') {
    const label = a(event, 'policy');
    const silent = SILENT.get(label as `0x${string}`);
    if (silent !== undefined) return [{ rule: 'policy-changed', severity: 'warning', text: silent }];
    if (TOLD.has(label as `0x${string}`)) return [];
    return [
      {
        rule: 'policy-changed',
        severity: 'warning',
        text: `A policy that this program does not know changed (${label})`,
      },
    ];
  }
  const found = Object.hasOwn(ROWS, name) ? ROWS[name] : undefined;
  return found === undefined ? [] : [{ rule: found.rule, severity: found.severity, text: found.say(event) }];
}

function registered(what: string, value: string): Finding {
  if (isUnprotected(value)) {
    const text = `${WHAT[what]} ${value} is allowed: it is that of a system without protection`;
    return { rule: 'unprotected-measurement', severity: 'critical', text };
  }
  return { rule: 'measurement-registered', severity: 'info', text: `${WHAT[what]} ${value} is allowed now` };
}

/** A revocation that may take something down, or that nobody saw coming. */
function revoked(occurrence: Occurrence, what: string, value: string): Finding {
  const { event, context, model } = occurrence;
  const list = listOf(occurrence, what);
  const actor = actorOf(occurrence);
  const guardians = event.source === 'kms' ? model.kms.guardians : model.app(event.address).guardians;
  const reasons = [
    ...(context.inUse.has(value) ? ['it is in use'] : []),
    ...(list?.has(value) && list.size === 1 ? ['nothing else of its kind is allowed'] : []),
    ...(guardians.has(actor) ? [`guardian ${actor} did it`] : []),
  ];
  const text = `${WHAT[what]} ${value} is revoked`;
  if (reasons.length === 0) return { rule: 'revocation', severity: 'warning', text };
  return { rule: 'suspicious-revocation', severity: 'critical', text: `${text}: ${reasons.join(', ')}` };
}

function listOf({ event, model }: Occurrence, what: string): Map<string, Allowance> | undefined {
  const { kms } = model;
  const app = event.source === 'app' ? model.app(event.address) : undefined;
  const lists: Readonly<Record<string, Map<string, Allowance> | undefined>> = {
    OsImageHash: kms.images,
    KmsAggregatedMr: kms.measurements,
    KmsDevice: kms.devices,
    ComposeHash: app?.composeHashes,
    Device: app?.devices,
  };
  return lists[what];
}

/** Somebody's text, so that it cannot be read as ours. */
function quoted(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}
