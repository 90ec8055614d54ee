import { type Hex, keccak256, toHex, zeroAddress, zeroHash } from 'viem';
import type { GovernanceEvent } from '../events/governance-event.ts';
import type { GovernanceModel } from './governance-model.ts';
import type { Allowance, AppModel, KmsModel, Ruled } from './model.ts';

/** Strings of the chain are kept to this length where they are shown. */
const MAX_TEXT = 512;
/** Announced calls of one contract that are remembered. */
const MAX_ANNOUNCED = 64;

/** @returns the value of an argument as text; empty when it is not there */
export function argument({ args }: GovernanceEvent, name: string): string {
  const value = args[name];
  return typeof value === 'string' ? value : typeof value === 'boolean' ? String(value) : '';
}

export function applyKms(model: GovernanceModel, event: GovernanceEvent): void {
  const { kms } = model;
  const arg = (name: string): string => argument(event, name);
  if (applyRuled(kms, event) || applyAllowance(kmsLists(kms), event)) return;
  switch (event.name) {
    case 'AppRegistered':
      model.app(arg('appId')).registered = true;
      break;
    case 'AppDeployedViaFactory':
      model.app(arg('appId')).fromFactory = true;
      break;
    case 'AppImplementationSet':
      kms.appImplementation = arg('implementation');
      break;
    case 'GatewayAppIdSet':
      kms.gatewayAppId = arg('gatewayAppId').slice(0, MAX_TEXT);
      break;
    case 'KmsInfoSet':
      kms.rootKey = arg('k256Pubkey').slice(0, MAX_TEXT);
      break;
    case 'AppPolicyExpirySet':
      model.app(arg('appId')).notAfter = seconds(arg('notAfter'));
      break;
    case 'AppBlocked':
    case 'AppUnblocked':
      model.app(arg('appId')).blocked = event.name === 'AppBlocked';
      break;
    case 'AdvisoryDenied':
      kms.deniedAdvisories.set(arg('advisoryHash'), arg('advisoryId').slice(0, MAX_TEXT));
      break;
    case 'AdvisoryAllowed':
      kms.deniedAdvisories.delete(arg('advisoryHash'));
      break;
    case 'Paused':
    case 'Unpaused':
      kms.paused = event.name === 'Paused';
      break;
  }
}

export function applyApp(app: AppModel, event: GovernanceEvent): void {
  const arg = (name: string): string => argument(event, name);
  if (applyRuled(app, event) || applyAllowance(appLists(app), event)) return;
  switch (event.name) {
    case 'AllowAnyDeviceSet':
      app.allowAnyDevice = Object.values(event.args).includes(true);
      break;
    case 'RequireTcbUpToDateSet':
      app.requireTcb = Object.values(event.args).includes(true);
      break;
    case 'UpgradesDisabled':
      app.upgradesDisabled = true;
      break;
    case 'PolicyChanged':
      // The initializer sets it without an event of its own.
      if (arg('policy') === ALLOW_ANY_DEVICE) app.allowAnyDevice = arg('enabled') === 'true';
      break;
  }
}

const ALLOW_ANY_DEVICE = keccak256(toHex('allow-any-device'));

function applyRuled(ruled: Ruled, event: GovernanceEvent): boolean {
  const arg = (name: string): string => argument(event, name);
  switch (event.name) {
    case 'OwnershipTransferred':
      ruled.owner = arg('newOwner');
      ruled.pendingOwner = zeroAddress;
      return true;
    case 'OwnershipTransferStarted':
      ruled.pendingOwner = arg('newOwner');
      return true;
    case 'Upgraded':
      ruled.implementation = arg('implementation');
      return true;
    case 'PolicyDelaySet':
      ruled.policyDelay = seconds(arg('delay'));
      return true;
    case 'CallAnnounced': {
      const { block, time, tx, sender } = event;
      const callHash = arg('callHash');
      // Announced once more, it is the newest.
      ruled.announced.delete(callHash);
      ruled.announced.set(callHash, { callHash, call: arg('call') as Hex, block, time, tx, sender });
      if (ruled.announced.size > MAX_ANNOUNCED) ruled.announced.delete(ruled.announced.keys().next().value!);
      return true;
    }
    case 'CallRetracted':
      ruled.announced.delete(arg('callHash'));
      return true;
    case 'GuardianSet':
      if (arg('enabled') === 'true') ruled.guardians.add(arg('guardian'));
      else ruled.guardians.delete(arg('guardian'));
      return true;
    default:
      return false;
  }
}

type Lists = Readonly<Record<string, Map<string, Allowance>>>;

const kmsLists = (kms: KmsModel): Lists => ({
  OsImageHash: kms.images,
  KmsAggregatedMr: kms.measurements,
  KmsDevice: kms.devices,
});
const appLists = (app: AppModel): Lists => ({ ComposeHash: app.composeHashes, Device: app.devices });

/** `<what>Added` and `<what>Removed` with one value, and the ends that are set for it. */
function applyAllowance(lists: Lists, event: GovernanceEvent): boolean {
  const { name, args, block, time, tx } = event;
  const [, what = '', verb] = /^(\w+)(Added|Removed)$/.exec(name) ?? [];
  const list = Object.hasOwn(lists, what) ? lists[what] : undefined;
  if (list) {
    const value = String(Object.values(args)[0] ?? zeroHash);
    if (verb === 'Added') list.set(value, { block, time, tx, notAfter: 0 });
    else list.delete(value);
    return true;
  }
  const ends = { OsImageExpirySet: 'OsImageHash', ComposeHashExpirySet: 'ComposeHash' } as const;
  const ended = Object.hasOwn(ends, name) ? lists[ends[name as keyof typeof ends]] : undefined;
  if (!ended) return false;
  const value = argument(event, name === 'OsImageExpirySet' ? 'osImageHash' : 'composeHash');
  const allowance = ended.get(value);
  if (allowance) allowance.notAfter = seconds(argument(event, 'notAfter'));
  return true;
}

/** Ends after the end of all calendars are none. */
export function seconds(text: string): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.MAX_SAFE_INTEGER;
  return Math.min(value, Number.MAX_SAFE_INTEGER);
}
