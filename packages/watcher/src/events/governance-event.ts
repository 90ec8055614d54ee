import { table } from '@dstack-cloud/app';
import type { Hex } from 'viem';
import { z } from 'zod';

/** What a followed contract is. */
export type SourceKind = 'kms' | 'app' | 'timelock' | 'safe';

export type EventValue = string | boolean | readonly string[];

/** One event of a followed contract, as it is kept. Whatever is in it may be a stranger's text. */
export type GovernanceEvent = {
  /** The same for the same event, also when a reorganisation puts it into another block. */
  readonly id: string;
  readonly block: number;
  readonly blockHash: Hex;
  readonly index: number;
  /** Unix seconds of the block. */
  readonly time: number;
  readonly tx: Hex;
  /** Who sent the transaction. */
  readonly sender: Hex;
  readonly source: SourceKind;
  readonly address: Hex;
  /** `unknown` for an event that the contract should not have. */
  readonly name: string;
  readonly args: Readonly<Record<string, EventValue>>;
  /** It was there before the contract was followed: it is shown, and nobody is called. */
  readonly history: boolean;
};

const hex = (digits: number): z.ZodType<Hex> =>
  z.string().regex(new RegExp(`^0x[0-9a-f]{${digits}}$`)) as unknown as z.ZodType<Hex>;

export const sourceKind: z.ZodType<SourceKind> = z.enum(['kms', 'app', 'timelock', 'safe']);

export const governanceEvent: z.ZodType<GovernanceEvent> = z.strictObject({
  id: z.string().regex(/^[0-9a-f]{32}$/),
  block: z.int().min(0),
  blockHash: hex(64),
  index: z.int().min(0),
  time: z.int().min(0),
  tx: hex(64),
  sender: hex(40),
  source: sourceKind,
  address: hex(40),
  name: z.string(),
  args: table(z.union([z.string(), z.boolean(), z.array(z.string())])),
  history: z.boolean(),
});
