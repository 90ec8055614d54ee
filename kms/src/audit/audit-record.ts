import { createHash } from 'node:crypto';
import type { BootInfo } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';

/** One decision, before it has a place in the log. */
export type AuditEntry = {
  /** `app-key`, `kms-key`, `sign-cert`, `get-key`, `onboard-source`. */
  readonly event: string;
  readonly info: BootInfo;
  readonly decision: 'allow' | 'deny';
  readonly reason: string;
  readonly blockNumber: bigint | undefined;
};

/** Where a record stands in the chain. */
export type AuditPosition = {
  readonly seq: number;
  /** Unix seconds. */
  readonly time: number;
  /** 32 bytes; zeros before the first record. */
  readonly previousHash: Uint8Array;
};

/** A record as it lies in the log: one line of canonical JSON. */
export type AuditLine = { readonly line: string; readonly hash: Uint8Array };

const MAX_REASON = 512;

/**
 * Chains a record: `hash` = SHA-256(previous hash || canonical JSON without `hash`) (chapter 10 section 10.2).
 * Canonical means members sorted by name, no spaces, ASCII.
 */
export function chainRecord(entry: AuditEntry, { seq, time, previousHash }: AuditPosition): AuditLine {
  const { info } = entry;
  const body: Record<string, string | number> = {
    app_id: toHex(info.appId),
    block_number: entry.blockNumber === undefined ? '' : String(entry.blockNumber),
    compose_hash: toHex(info.composeHash),
    decision: entry.decision,
    device_id: toHex(info.deviceId),
    event: entry.event,
    instance_id: toHex(info.instanceId),
    mr_aggregated: toHex(info.mrAggregated),
    os_image_hash: toHex(info.osImageHash),
    platform: info.mode,
    prev_hash: toHex(previousHash),
    reason: entry.reason.slice(0, MAX_REASON),
    seq,
    time,
  };
  const hash = recordHash(previousHash, canonical(body));
  return { line: canonical({ ...body, hash: toHex(hash) }), hash };
}

/**
 * The hash of a line of the log, recomputed; undefined when the line is no record or its own hash is wrong.
 */
export function checkLine(
  line: string,
  previousHash: Uint8Array,
): { seq: number; time: number; hash: Uint8Array } | undefined {
  try {
    const { hash, ...body } = JSON.parse(line) as Record<string, string | number>;
    const computed = recordHash(previousHash, canonical(body));
    const { seq, time, prev_hash: previous } = body;
    if (hash !== toHex(computed) || previous !== toHex(previousHash)) return undefined;
    return typeof seq === 'number' && typeof time === 'number' ? { seq, time, hash: computed } : undefined;
  } catch {
    return undefined;
  }
}

function recordHash(previousHash: Uint8Array, json: string): Uint8Array {
  return new Uint8Array(createHash('sha256').update(previousHash).update(json, 'utf8').digest());
}

function canonical(value: Readonly<Record<string, string | number>>): string {
  const members = Object.keys(value)
    .sort()
    .map((name) => `${JSON.stringify(name)}:${JSON.stringify(value[name])}`);
  return `{${members.join(',')}}`.replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
