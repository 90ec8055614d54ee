/** A real KMS and chain, a model of what must follow, and what must hold whenever somebody asked for keys. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { toHex } from '@dstack-cloud/encoding';
import type { Hex } from 'viem';
import { expect } from 'vitest';
import type { ChainControl } from './chain-control.ts';
import { getAppKey, type KmsHost } from './kms-lab.ts';
import type { KmsProcess } from './kms-process.ts';
import type { Workload } from './simulated-workload.ts';

export type Policy = {
  readonly apps: readonly boolean[];
  readonly isImageAllowed: boolean;
  readonly isKmsAllowed: boolean;
};

/** What the chain must say, now and in the states that it may be set back to. */
export type Model = { policy: Policy; snapshots: Policy[]; readonly epochs: number[] };

export type World = {
  readonly host: KmsHost;
  readonly chain: ChainControl;
  readonly apps: readonly { workload: Workload; identity: { cert: string; key: string } }[];
  /** Aggregated measurement of the KMS. */
  readonly kmsMr: Hex;
  /** A second machine, registered too, without keys. */
  readonly replica: KmsHost;
  /** The wallet key of each app and epoch that was ever given out. */
  readonly keys: Map<string, string>;
  kms: KmsProcess;
  snapshots: Hex[];
  /** Records seen so far, and how many answers with keys they belong to. */
  records: number;
  releases: number;
};

type AuditLine = {
  event: string;
  decision: string;
  app_id: string;
  compose_hash: string;
  block_number: number;
};
export type Outcome = 'keys' | 'refused' | 'unknown';

export const hex = (bytes: Uint8Array): Hex => `0x${toHex(bytes)}`;
export const isAllowed = ({ policy }: Model, app: number): boolean =>
  policy.isKmsAllowed && policy.isImageAllowed && policy.apps[app] === true;

/** The whole lines of the audit log on disk. */
export function auditLines({ certDir }: KmsHost): AuditLine[] {
  const text = readFileSync(join(certDir, 'audit', 'audit-000000000000.log'), 'utf8');
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as AuditLine);
}

/**
 * The invariant: an answer with keys has exactly one new record, of that workload, and at the block that the record
 * names the chain allowed it. A refusal has none that says "allowed".
 */
export async function expectRecorded(
  world: World,
  app: number,
  outcome: 'keys' | 'refused' | 'unknown',
): Promise<void> {
  const lines = auditLines(world.host);
  const allowed = lines.slice(world.records).filter(({ decision }) => decision === 'allowed');
  world.records = lines.length;
  const seen = JSON.stringify(allowed);
  if (outcome === 'keys') expect(allowed, seen).toHaveLength(1);
  if (outcome === 'refused') expect(allowed, seen).toHaveLength(0);
  expect(allowed.length, seen).toBeLessThanOrEqual(1);
  world.releases += allowed.length;
  const { workload } = world.apps[app]!;
  for (const line of allowed) {
    expect(line.event).toBe('app-key');
    expect(line.app_id).toBe(toHex(workload.appId));
    expect(line.compose_hash).toBe(toHex(workload.composeHash));
    const block = BigInt(line.block_number);
    const composeHash = hex(workload.composeHash);
    expect(await world.chain.isComposeHashAllowed(hex(workload.appId), composeHash, block)).toBe(true);
  }
}

/** Asks for keys. Those of an app and epoch are always the same, and nobody else's. */
export async function request({ kms, apps, keys }: World, { epochs }: Model, app: number): Promise<Outcome> {
  const answer = await getAppKey(kms, apps[app]!.identity).catch(() => undefined);
  if (answer === undefined) return 'unknown';
  if (answer.status !== 200) return 'refused';
  const { k256_key: key, key_epoch: epoch = 0 } = JSON.parse(answer.body) as Record<string, unknown>;
  expect(key).toMatch(/^[0-9a-f]{64}$/);
  expect(epoch).toBe(epochs[app]);
  const name = `${app}/${epoch}`;
  expect(keys.get(name) ?? key).toBe(key);
  keys.set(name, String(key));
  expect(new Set(keys.values()).size).toBe(keys.size);
  return 'keys';
}
