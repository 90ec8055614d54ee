import { table } from '@dstack-cloud/app';
import type { Hex } from 'viem';
import { z } from 'zod';
import { type Alert, alertSchema } from '../alerts/alert.ts';
import {
  type GovernanceEvent,
  governanceEvent,
  type SourceKind,
  sourceKind,
} from '../events/governance-event.ts';

/** Flags of an app contract, as its storage has them. */
export type AppFlags = { readonly allowAnyDevice: boolean; readonly upgradesDisabled: boolean };

/** Changes of a policy that were read in some blocks, and not kept. */
export type LeftOut = { readonly from: number; readonly to: number; readonly count: number };

/** A contract that is followed. */
export type Source = {
  readonly kind: SourceKind;
  /** The block that is read next. */
  readonly next: number;
  /** Events before this block are history. */
  readonly alertsFrom: number;
  /** Named in the configuration, rather than found. */
  readonly listed: boolean;
  /** Why it is not followed any more. */
  readonly muted?: string | undefined;
  /** What was pending when it was first read whole was told. */
  readonly pendingTold?: boolean | undefined;
  /** What an app was set up with: not every line has an event for it. */
  readonly flags?: AppFlags | undefined;
  /** `policyEpoch()` less the changes that were seen, when both were first read together. */
  readonly epochOffset?: number | undefined;
  /** Ascending, without overlaps: what strangers changed that the journal has no room for. */
  readonly leftOut?: readonly LeftOut[] | undefined;
};

/** A block that was on the chain when it was read. */
export type Checkpoint = { readonly number: number; readonly hash: string; readonly time: number };

/** A message that is still to be told. */
export type Pending = {
  readonly sequence: number;
  readonly alert: Alert;
  /** Where it has not arrived yet. */
  readonly to: readonly ('log' | 'webhook')[];
};

/** Everything but the events themselves, which are in the journal. */
export type WatchState = {
  readonly version: 1;
  readonly kms: string;
  readonly chainId: number | null;
  readonly fromBlock: number;
  readonly sources: Readonly<Record<string, Source>>;
  /** Ascending. */
  readonly checkpoints: readonly Checkpoint[];
  /** Up to here the KMS itself says that no event is missing. */
  readonly verified: number;
  /** Events of abandoned blocks by id, with the height of the chain when they were abandoned. */
  readonly orphans: Readonly<Record<string, number>>;
  readonly sequence: number;
  readonly outbox: readonly Pending[];
  /** Messages that were given up because too many waited. */
  readonly dropped: number;
  /** What goes on and was told already, by name, with the Unix seconds of its begin. */
  readonly told: Readonly<Record<string, number>>;
  readonly counts: Readonly<Record<string, number>>;
  readonly journal: { readonly bytes: number; readonly entries: number; readonly hash: string };
};

/** One line of the journal. */
export type JournalEntry =
  | { readonly type: 'event'; readonly event: GovernanceEvent }
  /** The event is in another block now. */
  | {
      readonly type: 'moved';
      readonly id: string;
      readonly block: number;
      readonly blockHash: Hex;
      readonly index: number;
      readonly time: number;
    }
  /** A reorganisation removed it, and it did not come back. */
  | { readonly type: 'withdrawn'; readonly id: string };

const natural = z.int().min(0);

export const watchState: z.ZodType<WatchState> = z.strictObject({
  version: z.literal(1),
  kms: z.string(),
  chainId: natural.nullable(),
  fromBlock: natural,
  sources: table(
    z.strictObject({
      kind: sourceKind,
      next: natural,
      alertsFrom: natural,
      listed: z.boolean(),
      muted: z.string().optional(),
      pendingTold: z.boolean().optional(),
      flags: z.strictObject({ allowAnyDevice: z.boolean(), upgradesDisabled: z.boolean() }).optional(),
      epochOffset: z.int().optional(),
      leftOut: z.array(z.strictObject({ from: natural, to: natural, count: natural })).optional(),
    }),
  ),
  checkpoints: z.array(
    z.strictObject({ number: natural, hash: z.string().regex(/^0x[0-9a-f]{64}$/), time: natural }),
  ),
  verified: natural,
  orphans: table(natural),
  sequence: natural,
  outbox: z.array(
    z.strictObject({
      sequence: natural,
      alert: alertSchema,
      to: z.array(z.enum(['log', 'webhook'])),
    }),
  ),
  dropped: natural,
  told: table(natural),
  counts: table(natural),
  journal: z.strictObject({ bytes: natural, entries: natural, hash: z.string().regex(/^[0-9a-f]{64}$/) }),
}) as z.ZodType<WatchState>;

export const journalEntry: z.ZodType<JournalEntry> = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('event'), event: governanceEvent }),
  z.strictObject({
    type: z.literal('moved'),
    id: z.string(),
    block: natural,
    blockHash: z.string().regex(/^0x[0-9a-f]{64}$/),
    index: natural,
    time: natural,
  }),
  z.strictObject({ type: z.literal('withdrawn'), id: z.string() }),
]) as z.ZodType<JournalEntry>;
