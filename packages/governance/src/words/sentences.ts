import type { Hex } from 'viem';
import { roleOf } from '../timelock/roles.ts';

/**
 * What a call does to the policy: `adds` allows more, `removes` allows less, `powers` changes who may do what, `code`
 * replaces code, `steps` moves an operation along, `info` changes no decision.
 */
export type Effect = 'adds' | 'removes' | 'powers' | 'code' | 'steps' | 'info' | 'unknown';

/** A function in words. */
export type Sentence = {
  readonly effect: Effect | ((args: readonly unknown[]) => Effect);
  readonly text: (args: readonly unknown[]) => string;
};

const say = (effect: Sentence['effect'], text: Sentence['text']): Sentence => ({ effect, text });
const until = (seconds: unknown): string =>
  BigInt(String(seconds)) === 0n ? 'without an end' : `until ${timeText(BigInt(String(seconds)))}`;

/** Seconds of the chain as a time, or as they are when no calendar has them. */
export function timeText(seconds: bigint): string {
  const last = 253_402_300_799n;
  if (seconds > last) return `second ${seconds}`;
  return new Date(Number(seconds) * 1000).toISOString().replace('.000Z', 'Z');
}

/** A duration as people say it. */
export function durationText(seconds: bigint): string {
  const units = [
    [86_400n, 'day'],
    [3_600n, 'hour'],
    [60n, 'minute'],
  ] as const;
  const unit = units.find(([size]) => seconds >= size && seconds % size === 0n);
  const [count, name] = unit === undefined ? [seconds, 'second'] : [seconds / unit[0], unit[1]];
  return `${count} ${name}${count === 1n ? '' : 's'}`;
}

/** What DstackKms and DstackApp share. */
const shared: Readonly<Record<string, Sentence>> = {
  transferOwnership: say('powers', ([to]) => `make ${to} the owner at once`),
  setAdmin: say('powers', ([to]) => `make ${to} the owner at once`),
  startOwnershipTransfer: say('powers', ([to]) => `offer the ownership to ${to}`),
  acceptOwnership: say('powers', () => 'take the ownership that was offered'),
  renounceOwnership: say('powers', () => 'give up the ownership (always refused)'),
  setGuardian: say(
    'powers',
    ([account, isOne]) =>
      `${isOne === true ? 'make' : 'dismiss'} ${account} ${isOne === true ? 'a' : 'as'} guardian`,
  ),
  announce: say('steps', () => 'make public, to be made after the policy delay'),
  retract: say('removes', ([hash]) => `retract announcement ${hash}`),
  setPolicyDelay: say(
    'powers',
    ([delay]) => `set the policy delay to ${durationText(BigInt(String(delay)))}`,
  ),
  upgradeToAndCall: say('code', ([code]) => `replace the code by ${code}`),
  upgradeTo: say('code', ([code]) => `replace the code by ${code}`),
};

/** DstackKms. A test holds both tables to the ABI. */
export const kmsSentences: Readonly<Record<string, Sentence>> = {
  ...shared,
  initialize: say('powers', ([owner]) => `set up, with owner ${owner}`),
  addOsImageHash: say('adds', ([hash]) => `allow OS image ${hash}`),
  addMeasurement: say('adds', ([hash]) => `allow OS image ${hash}`),
  addOsImageHashUntil: say('adds', ([hash, end]) => `allow OS image ${hash} ${until(end)}`),
  removeOsImageHash: say('removes', ([hash]) => `revoke OS image ${hash}`),
  removeMeasurement: say('removes', ([hash]) => `revoke OS image ${hash}`),
  addKmsAggregatedMr: say('adds', ([mr]) => `allow KMS measurement ${mr}`),
  removeKmsAggregatedMr: say('removes', ([mr]) => `revoke KMS measurement ${mr}`),
  addKmsDevice: say('adds', ([device]) => `allow KMS device ${device}`),
  removeKmsDevice: say('removes', ([device]) => `revoke KMS device ${device}`),
  registerApp: say('adds', ([app]) => `register app ${app}`),
  deployAndRegisterApp: say('adds', ([owner]) => `create an app that ${owner} owns`),
  deployAndRegisterAppDeterministic: say('adds', ([, owner]) => `create an app that ${owner} owns`),
  setAppPolicyExpiry: say('adds', ([app, end]) => `let app ${app} have keys ${until(end)}`),
  blockApp: say('removes', ([app]) => `block app ${app}`),
  unblockApp: say('adds', ([app]) => `unblock app ${app}`),
  denyAdvisory: say('removes', ([id]) => `deny platforms with advisory ${text(id)}`),
  allowAdvisory: say('adds', ([id]) => `accept platforms with advisory ${text(id)} again`),
  pause: say('removes', () => 'pause: allow nothing'),
  unpause: say('adds', () => 'end the pause'),
  setGatewayAppId: say('powers', ([id]) => `name ${text(id)} as the gateway`),
  setAppImplementation: say('code', ([code]) => `use ${code} as the code of future apps`),
  setKmsInfo: say('info', () => 'publish another identity of the KMS'),
  setKmsQuote: say('info', () => 'publish another quote of the KMS'),
  setKmsEventlog: say('info', () => 'publish another event log of the KMS'),
};

/** DstackApp. */
export const appSentences: Readonly<Record<string, Sentence>> = {
  ...shared,
  initialize: say('powers', ([owner]) => `set up, with owner ${owner}`),
  addComposeHash: say('adds', ([hash]) => `allow compose hash ${hash}`),
  addComposeHashUntil: say('adds', ([hash, end]) => `allow compose hash ${hash} ${until(end)}`),
  replaceComposeHash: say(
    'adds',
    ([before, after, grace]) =>
      `allow compose hash ${after} in place of ${before}, which ends ${BigInt(String(grace)) === 0n ? 'at once' : `after ${durationText(BigInt(String(grace)))}`}`,
  ),
  removeComposeHash: say('removes', ([hash]) => `revoke compose hash ${hash}`),
  addDevice: say('adds', ([device]) => `allow device ${device}`),
  removeDevice: say('removes', ([device]) => `revoke device ${device}`),
  setAllowAnyDevice: say(
    ([any]) => (any === true ? 'adds' : 'removes'),
    ([any]) => (any === true ? 'allow any device' : 'allow the listed devices only'),
  ),
  setRequireTcbUpToDate: say(
    ([required]) => (required === true ? 'removes' : 'adds'),
    ([required]) => (required === true ? 'demand an up-to-date TCB' : 'no longer demand an up-to-date TCB'),
  ),
  setKms: say('powers', ([kms]) => `name ${kms} as the KMS contract`),
  disableUpgrades: say('code', () => 'fix the code for ever'),
};

const role = (id: unknown): string => roleOf(id as Hex) ?? `role ${id}`;

/** A Timelock. */
export const timelockSentences: Readonly<Record<string, Sentence>> = {
  schedule: say(
    'steps',
    ([, , , , , delay]) => `schedule, to be ready after ${durationText(delay as bigint)}`,
  ),
  scheduleBatch: say(
    'steps',
    ([, , , , , delay]) => `schedule as one batch, to be ready after ${durationText(delay as bigint)}`,
  ),
  execute: say('steps', () => 'execute'),
  executeBatch: say('steps', () => 'execute as one batch'),
  cancel: say('steps', ([id]) => `cancel operation ${id}`),
  updateDelay: say('powers', ([delay]) => `set the least delay to ${durationText(delay as bigint)}`),
  grantRole: say('powers', ([id, account]) => `make ${account} ${role(id)}`),
  revokeRole: say('powers', ([id, account]) => `dismiss ${account} as ${role(id)}`),
  renounceRole: say('powers', ([id, account]) => `${account} gives up being ${role(id)}`),
};

/** A Safe, by calls to itself. */
export const safeSentences: Readonly<Record<string, Sentence>> = {
  addOwnerWithThreshold: say(
    'powers',
    ([owner, threshold]) => `add signer ${owner}, and require ${threshold} signatures`,
  ),
  removeOwner: say(
    'powers',
    ([, owner, threshold]) => `remove signer ${owner}, and require ${threshold} signatures`,
  ),
  swapOwner: say('powers', ([, before, after]) => `replace signer ${before} by ${after}`),
  changeThreshold: say('powers', ([threshold]) => `require ${threshold} signatures`),
  enableModule: say('powers', ([module]) => `let ${module} act for the Safe without signatures`),
  disableModule: say('powers', ([, module]) => `no longer let ${module} act without signatures`),
  setGuard: say('powers', ([guard]) => `let ${guard} refuse transactions of the Safe`),
  setFallbackHandler: say('powers', ([handler]) => `let ${handler} answer what the Safe does not know`),
  setup: say('powers', () => 'set up a Safe'),
  execTransaction: say('steps', () => 'execute a transaction of the Safe'),
  approveHash: say('steps', ([hash]) => `approve transaction ${hash}`),
};

/** Somebody's text, quoted, so that it cannot be read as ours. */
function text(value: unknown): string {
  const written = String(value);
  return JSON.stringify(written.length > 200 ? `${written.slice(0, 200)}…` : written);
}
