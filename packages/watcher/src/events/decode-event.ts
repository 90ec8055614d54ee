import { createHash } from 'node:crypto';
import { dstackAppAbi, dstackKmsAbi } from '@dstack-cloud/contracts';
import { safeAbi, timelockAbi } from '@dstack-cloud/governance';
import { type Abi, decodeEventLog, type Hex, recoverAddress } from 'viem';
import type { ChainLog } from '../chain/chain-log.ts';
import type { LogRange, Sender } from '../chain/read-logs.ts';
import { moreSafeEvents, moreTimelockEvents, safe13Events } from './governance-abi.ts';
import type { EventValue, GovernanceEvent, SourceKind } from './governance-event.ts';
import { safeSigners } from './safe-signers.ts';

/** The ABIs that an event of a contract may be of, the likeliest first. */
export const ABIS: Readonly<Record<SourceKind, readonly Abi[]>> = {
  kms: [dstackKmsAbi],
  app: [dstackAppAbi],
  timelock: [timelockAbi, moreTimelockEvents],
  safe: [safeAbi, moreSafeEvents, safe13Events],
};

/** Longest value that is kept, in characters: call data of a batch fits, a stranger's novel does not. */
const MAX_VALUE = 32_768;
const MAX_ITEMS = 64;

/** The events of a range. @param kinds what each address is, and from which block on somebody is called for it */
export async function decodeEvents(
  range: LogRange,
  kinds: ReadonlyMap<string, { readonly kind: SourceKind; readonly alertsFrom: number }>,
): Promise<GovernanceEvent[]> {
  const ordinals = new Map<string, number>();
  const events: GovernanceEvent[] = [];
  for (const log of range.logs) {
    const { kind, alertsFrom } = kinds.get(log.address)!;
    const content = JSON.stringify([log.address, log.topics, log.data, log.transactionHash]);
    // One transaction may emit the same event several times.
    const ordinal = ordinals.get(content) ?? 0;
    ordinals.set(content, ordinal + 1);
    const sender = range.senders[log.transactionHash]!;
    events.push({
      id: createHash('sha256').update(`${content}/${ordinal}`).digest('hex').slice(0, 32),
      block: log.blockNumber,
      blockHash: log.blockHash,
      index: log.logIndex,
      time: range.times[log.blockHash]!,
      tx: log.transactionHash,
      sender: sender.from,
      source: kind,
      address: log.address,
      history: log.blockNumber < alertsFrom,
      ...(await decoded(kind, log, sender)),
    });
  }
  return events;
}

async function decoded(
  kind: SourceKind,
  log: ChainLog,
  sender: Sender,
): Promise<Pick<GovernanceEvent, 'name' | 'args'>> {
  for (const abi of ABIS[kind]) {
    try {
      const { eventName, args } = decodeEventLog({
        abi,
        data: log.data,
        topics: log.topics as [Hex, ...Hex[]],
        strict: true,
      });
      const values = Object.fromEntries(
        Object.entries((args ?? {}) as Record<string, unknown>).map(([name, value]) => [name, kept(value)]),
      );
      const name: string = eventName ?? 'unknown';
      if (name !== 'ExecutionSuccess' && name !== 'ExecutionFailure') return { name, args: values };
      const hash = values['txHash'] as Hex;
      const signers = await safeSigners(hash, log.address, sender, recoverAddress);
      return { name, args: { ...values, ...(signers === undefined ? {} : { signers }) } };
    } catch {
      // Of another ABI, or of none.
    }
  }
  return { name: 'unknown', args: { topic: log.topics[0] ?? '', data: kept(log.data) } };
}

function kept(value: unknown): EventValue {
  if (typeof value === 'boolean') return value;
  if (Array.isArray(value)) return value.slice(0, MAX_ITEMS).map((item) => String(kept(item)));
  const text =
    typeof value === 'string' && /^0x[0-9a-fA-F]*$/.test(value) ? value.toLowerCase() : String(value);
  if (text.length <= MAX_VALUE) return text;
  return `${text.slice(0, MAX_VALUE)}… (${text.length} characters)`;
}
