import { z } from 'zod';
import { SEVERITIES, type Severity } from '../alerts/alert.ts';

const url = z.url({ protocol: /^https?$/ });
const address = z.string().regex(/^0x[0-9a-fA-F]{40}$/, 'must be an address, 0x and 40 hex digits');
const noAddress = z.union([z.literal(''), address], 'must be an address, 0x and 40 hex digits, or empty');
const hash = z.string().regex(/^(0x)?[0-9a-fA-F]{64}$/, 'must be 64 hex digits');

/** The configuration of the watcher, with its defaults. */
export type WatchConfig = {
  readonly rpc_urls: readonly string[];
  readonly quorum?: number | undefined;
  readonly chain_id?: number | undefined;
  readonly rpc_timeout_seconds: number;
  readonly kms_contract: string;
  readonly apps: readonly string[];
  readonly timelocks: readonly string[];
  readonly safes: readonly string[];
  readonly from_block: number;
  readonly finality: 'latest' | 'safe' | 'finalized' | number;
  readonly poll_seconds: number;
  readonly blocks_per_query: number;
  readonly max_apps: number;
  readonly state_path: string;
  readonly in_use: readonly string[];
  readonly multi_send: readonly string[];
  readonly alerts: {
    readonly stale_seconds: number;
    readonly pending_hours: number;
    readonly queue_depth: number;
    readonly expiry_days: number;
    readonly participation: number;
    readonly participation_days: number;
  };
  readonly webhook: {
    readonly url: string;
    readonly secret_file: string;
    readonly min_severity: Severity;
    readonly max_waiting: number;
    readonly timeout_seconds: number;
  };
  readonly safe_service: {
    readonly url: string;
    readonly api_key_file: string;
    readonly poll_seconds: number;
  };
  readonly metrics: { readonly enabled: boolean; readonly address: string; readonly port: number };
};

export const configSchema: z.ZodType<WatchConfig> = z.strictObject({
  rpc_urls: z.array(url).max(16).default([]),
  quorum: z.int().min(1).max(16).optional(),
  chain_id: z.int().positive().optional(),
  rpc_timeout_seconds: z.number().min(1).max(120).default(10),
  kms_contract: noAddress.default(''),
  apps: z.array(address).max(1_000).default([]),
  timelocks: z.array(address).max(16).default([]),
  safes: z.array(address).max(16).default([]),
  from_block: z.int().min(0).default(0),
  finality: z
    .union(
      [z.enum(['latest', 'safe', 'finalized']), z.int().min(0).max(100_000)],
      'must be "latest", "safe", "finalized" or a number of blocks',
    )
    .default('latest'),
  poll_seconds: z.number().min(0.1).max(3_600).default(12),
  blocks_per_query: z.int().min(1).max(100_000).default(10_000),
  max_apps: z.int().min(0).max(10_000).default(1_000),
  state_path: z.string().min(1).default('watch-state'),
  in_use: z.array(hash).max(1_000).default([]),
  multi_send: z
    .array(address)
    .max(16)
    .default(['0x38869bf66a61cF6bDB996A6aE40D5853Fd43B526', '0x9641d764fc13c8B624c04430C7356C1C7C8102e2']),
  alerts: z
    .strictObject({
      stale_seconds: z.int().min(1).max(86_400).default(60),
      pending_hours: z.number().min(0).max(8_760).default(24),
      queue_depth: z.int().min(0).max(1_000).default(3),
      expiry_days: z.int().min(0).max(365).default(14),
      participation: z.number().min(0).max(1).default(0.8),
      participation_days: z.int().min(1).max(365).default(7),
    })
    .prefault({}),
  webhook: z
    .strictObject({
      url: z.union([z.literal(''), url], 'must be an http or https address, or empty').default(''),
      secret_file: z.string().default(''),
      min_severity: z.enum(SEVERITIES).default('info'),
      max_waiting: z.int().min(1).max(10_000).default(1_000),
      timeout_seconds: z.number().min(1).max(60).default(10),
    })
    .prefault({}),
  safe_service: z
    .strictObject({
      url: z.union([z.literal(''), url], 'must be an http or https address, or empty').default(''),
      api_key_file: z.string().default(''),
      poll_seconds: z.number().min(1).max(3_600).default(30),
    })
    .prefault({}),
  metrics: z
    .strictObject({
      enabled: z.boolean().default(true),
      address: z.string().min(1).default('127.0.0.1'),
      port: z.int().min(0).max(65_535).default(9_464),
    })
    .prefault({}),
});

/** Checks a table and fills in the defaults. */
export function checkTable(
  table: unknown,
): { readonly config: WatchConfig } | { readonly issues: readonly z.core.$ZodIssue[] } {
  const result = configSchema.safeParse(table);
  return result.success ? { config: result.data } : { issues: result.error.issues };
}
