import { dstackKmsAbi, loadArtifact } from '@dstack-cloud/contracts';
import {
  type Call,
  type ContractState,
  callLines,
  describeCall,
  durationText,
  groupByAuthority,
  ifPresent,
  type Route,
  timeText,
} from '@dstack-cloud/governance';
import { type Address, isAddressEqual, keccak256, type PublicClient } from 'viem';
import type { GovSession, GovView } from '../gov/connect-gov.ts';
import type { PendingProposal } from '../gov/pending-proposals.ts';
import { whoStarts } from '../gov/start-calls.ts';
import type { Entry, Registration } from './read-registration.ts';
import { findAnnouncement, findUnderWay, type Proposed, readyFrom, type UnderWay } from './under-way.ts';

/** A missing call, and what is under way for it. */
export interface PlannedCall extends Call {
  readonly entry: Entry;
  /** The call itself, at the Timelock or at the transaction service. */
  readonly underWay: UnderWay;
  /** The same of the call that announces it. */
  readonly announcement: UnderWay;
  /** It was made public in the contract, and counts from then on. */
  readonly announcedAt?: bigint;
  /** Unix time before which it cannot take effect. */
  readonly earliest: bigint;
  /** The contract refuses it until somebody announced it. */
  readonly needsAnnouncement: boolean;
}

/** What one owner has to make. */
export interface PlannedGroup {
  readonly route: Route;
  readonly calls: readonly PlannedCall[];
  readonly earliest: bigint;
}

export interface Plan {
  readonly groups: readonly PlannedGroup[];
  /** Unix time from which all can be in effect, if everything is started now. */
  readonly earliest: bigint;
  readonly obstacles: readonly string[];
}

/**
 * Who has to sign what is missing, and when it can take effect.
 * @param requireTimelock seconds, as in kms.toml
 * @param pending what waits for signatures, at the transaction service or in files
 */
export async function planRegistration(
  { client }: GovSession,
  view: GovView,
  { entries, obstacles: found }: Registration,
  { requireTimelock, pending }: { requireTimelock: number | undefined; pending: readonly PendingProposal[] },
): Promise<Plan> {
  const { governance } = view;
  const now = governance.block.timestamp;
  const missing = entries.flatMap((entry) => (entry.call === undefined ? [] : [{ ...entry.call, entry }]));
  const contracts = [governance.kms, ...governance.apps];
  const byAddress = (address: Address): ContractState | undefined =>
    contracts.find((one) => isAddressEqual(one.address, address));
  const groups: PlannedGroup[] = [];
  for (const { route, calls } of groupByAuthority(governance, missing, ({ entry }) => entry.contract)) {
    const announces = await isAnnounced(client, route, governance.block.number);
    const planned: PlannedCall[] = [];
    for (const call of calls) {
      // Anybody registers an app, without delay.
      const contract = isAddressEqual(call.to, call.entry.contract) ? byAddress(call.to) : undefined;
      planned.push(await plannedCall(client, view, route, { call, contract, announces, pending }));
    }
    groups.push({ route, calls: planned, earliest: latest(now, ...planned.map(({ earliest }) => earliest)) });
  }
  const obstacles = [...found];
  let earliest = latest(now, ...groups.map((group) => group.earliest));
  if (requireTimelock !== undefined) {
    const seconds = BigInt(requireTimelock);
    for (const { address, kind } of contracts) {
      const name = kind === 'kms' ? 'DstackKms' : `App ${address}`;
      const read = { address, abi: dstackKmsAbi, blockNumber: governance.block.number } as const;
      const since = await ifPresent(
        client.readContract({ ...read, functionName: 'policyDelaySince', args: [seconds] }),
      );
      if (since === undefined || since === 0n) {
        obstacles.push(
          `${name} contract has no policy delay of ${requireTimelock} s: a KMS with that require_timelock allows nothing by it`,
        );
      } else earliest = latest(earliest, since + seconds);
    }
  }
  return { groups, earliest, obstacles };
}

async function plannedCall(
  client: PublicClient,
  view: GovView,
  route: Route,
  {
    call,
    contract,
    announces,
    pending,
  }: {
    call: Call & { entry: Entry };
    contract: ContractState | undefined;
    announces: boolean;
    pending: readonly PendingProposal[];
  },
): Promise<PlannedCall> {
  const { block } = view.governance;
  const policyDelay = contract?.policyDelay ?? 0n;
  const now = block.timestamp;
  const wait = route.timelock?.minDelay ?? 0n;
  const underWay = findUnderWay(view, route, call, pending);
  if (policyDelay === 0n || contract === undefined || !announces) {
    // A DstackTimelock makes public what it schedules.
    const ready = latest(readyFrom(underWay, now, wait), underWay.scheduled ? now : now + policyDelay);
    return { ...call, underWay, announcement: {}, earliest: latest(now, ready), needsAnnouncement: false };
  }
  const read = { address: contract.address, abi: dstackKmsAbi, blockNumber: block.number } as const;
  const at = await client.readContract({
    ...{ ...read, functionName: 'announcedAt' },
    args: [keccak256(call.data)],
  });
  const isOpen = at !== 0n && now <= at + policyDelay + USE_WITHIN;
  const announcement = isOpen ? {} : findAnnouncement(view, route, call, pending);
  const counts = (isOpen ? at : latest(now, readyFrom(announcement, now, wait))) + policyDelay;
  return {
    ...{ ...call, underWay, announcement },
    ...(isOpen && { announcedAt: at }),
    ...{ earliest: latest(counts, readyFrom(underWay, now, wait)), needsAnnouncement: !isOpen },
  };
}

/** Seconds after the delay in which an announced call can be made (PolicyDelay.sol). */
const USE_WITHIN = 14n * 86_400n;

/** Whether the owner has to announce in the contract: all do, but a DstackTimelock. */
async function isAnnounced(client: PublicClient, { timelock }: Route, blockNumber: bigint): Promise<boolean> {
  if (timelock === undefined) return true;
  const code = (await client.getCode({ address: timelock.address, blockNumber })) ?? '0x';
  return keccak256(code) !== keccak256(loadArtifact('DstackTimelock').deployedBytecode);
}

function latest(...times: readonly bigint[]): bigint {
  return [...times].sort((a, b) => (a < b ? -1 : 1)).at(-1) ?? 0n;
}

/** The plan for people. */
export function planLines(
  { governance, known }: GovView,
  { entries }: Registration,
  { groups, earliest, obstacles }: Plan,
): string[] {
  const note = (text: string | undefined): string => (text === undefined ? '' : ` (${text})`);
  const lines = entries.map(
    ({ what, isAllowed, note: more }) => `${isAllowed ? 'allowed' : 'missing'}  ${what}${note(more)}`,
  );
  for (const { route, calls } of groups) {
    lines.push(`To be made by ${makerText(route)}:`);
    for (const call of calls) {
      lines.push(
        ...callLines(describeCall(call, known), '  '),
        `    ${whenText(call, governance.block.timestamp)}`,
      );
    }
  }
  for (const obstacle of obstacles) lines.push(`Denied all the same: ${obstacle}`);
  if (groups.length === 0) lines.push('Nothing is missing');
  else lines.push(`It can be in effect from ${timeText(earliest)} at the earliest, if all is started now`);
  return lines;
}

/** The owner, and through what it acts. */
export function makerText(route: Route): string {
  const { timelock, safe } = route;
  if (timelock !== undefined) {
    return `${whoStarts(route)}, through Timelock ${timelock.address} with a delay of ${durationText(timelock.minDelay)}`;
  }
  return safe === undefined ? `the account ${whoStarts(route)}` : whoStarts(route);
}

function whenText(
  { underWay, announcement, announcedAt, earliest, needsAnnouncement }: PlannedCall,
  now: bigint,
): string {
  const from = earliest <= now ? 'now' : `from ${timeText(earliest)}`;
  if (underWay.scheduled !== undefined && !needsAnnouncement)
    return `scheduled already as operation ${underWay.scheduled.id}: can be executed ${from}`;
  const started = underWayText('', underWay);
  const announced = underWayText('its announcement is ', announcement);
  const both = [started, announced].filter((one) => one !== undefined).join('; ');
  if (both !== '') return `${both}: can take effect ${from}`;
  if (announcedAt !== undefined) return `announced at ${timeText(announcedAt)}: can be made ${from}`;
  if (needsAnnouncement) return `has to be announced first (--announce): can be made ${from} at the earliest`;
  return earliest <= now ? 'takes effect at once' : `can take effect ${from}`;
}

function underWayText(what: string, { scheduled, proposed }: UnderWay): string | undefined {
  if (scheduled !== undefined) return `${what}scheduled already as operation ${scheduled.id}`;
  if (proposed === undefined) return undefined;
  const { hash, nonce, signatures, threshold, path } = proposed;
  const where = path === undefined ? '' : `, in ${path} (remove it to propose it again)`;
  return `${what}proposed already as Safe transaction ${hash}, nonce ${nonce}, with ${signatures} of ${threshold} signatures${where}`;
}

/** The plan for programs. */
export function planJson(
  { known }: GovView,
  { entries }: Registration,
  { groups, earliest, obstacles }: Plan,
): Record<string, unknown> {
  return {
    entries: entries.map(({ what, isAllowed, note }) => ({ what, allowed: isAllowed, note: note ?? null })),
    missing: groups.flatMap(({ calls }) => calls).length,
    groups: groups.map(({ route, calls, earliest: at }) => ({
      authority: route.authority,
      by: makerText(route),
      timelock: route.timelock?.address ?? null,
      delay_seconds: Number(route.timelock?.minDelay ?? 0n),
      safe: route.safe?.address ?? null,
      signatures: route.safe?.threshold ?? 1,
      signers: route.safe?.owners ?? route.accounts,
      earliest: Number(at),
      calls: calls.map((call) => ({
        ...{ to: call.to, data: call.data, effect: callLines(describeCall(call, known)) },
        ...underWayJson(call.underWay),
        ...{ needs_announcement: call.needsAnnouncement, announcement: underWayJson(call.announcement) },
        announced_at: call.announcedAt === undefined ? null : Number(call.announcedAt),
        earliest: Number(call.earliest),
      })),
    })),
    earliest: Number(earliest),
    obstacles,
  };
}

function underWayJson({ scheduled, proposed }: UnderWay): Record<string, unknown> {
  return {
    operation: scheduled?.id ?? null,
    proposal: proposed === undefined ? null : jsonOfProposed(proposed),
  };
}

function jsonOfProposed({ nonce, delay, path, ...rest }: Proposed): Record<string, unknown> {
  return { ...rest, nonce: Number(nonce), delay_seconds: Number(delay), file: path ?? null };
}
