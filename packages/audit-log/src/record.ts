import { createHash } from 'node:crypto';
import { canonicalJson } from '@dstack-cloud/app';
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { AuditError } from './errors.ts';

/** One line of the log is at most this long. */
export const MAX_RECORD_BYTES: number = 16 * 1024;

/** A decision to be recorded (docs/protocol/kms.md section 9.1). Identities in hex; never a key. */
export type AuditEntry = {
  /** What was decided: `app-key`, `kms-key`, `sign-cert`, `bootstrap`, `onboard`, `epoch`, ... */
  event: string;
  app_id?: string | undefined;
  instance_id?: string | undefined;
  device_id?: string | undefined;
  compose_hash?: string | undefined;
  os_image_hash?: string | undefined;
  mr_aggregated?: string | undefined;
  /** Attestation mode. */
  platform?: string | undefined;
  /** True when the evidence is signed under a test root. */
  simulated?: boolean | undefined;
  decision: 'allowed' | 'denied' | 'failed';
  reason?: string | undefined;
  /** How often the same refusal came again in the minute after its own record; the record of a count alone. */
  repeats?: number | undefined;
  /** Block at which the policy was read. */
  block_number?: number | undefined;
  key_epoch?: number | undefined;
  /** Id of the root that released keys come from. */
  key_root?: string | undefined;
  /** Older keys released beside them, each `ROOT:EPOCH`, the oldest first. */
  previous_keys?: string[] | undefined;
  /** Ids of all roots that another KMS got, the active one first. */
  root_keys?: string[] | undefined;
  /** Name of a key that was derived for the application. */
  key_name?: string | undefined;
  /** Of a signed certificate: SHA-256 of its public key (SPKI), subject and alternative names. */
  certificate_key?: string | undefined;
  certificate_names?: string[] | undefined;
  /** Of a change of root: compressed k256 keys, and the old root's signature (see `RootHandover`). */
  old_root?: string | undefined;
  new_root?: string | undefined;
  handover?: string | undefined;
};

/** A decision as it stands in the log. */
export type AuditRecord = AuditEntry & {
  seq: number;
  /** ISO 8601, UTC. */
  time: string;
  prev_hash: string;
  hash: string;
};

const hash: z.ZodType<string> = z.string().regex(/^[0-9a-f]{64}$/);
const identifier: z.ZodOptional<z.ZodString> = z
  .string()
  .regex(/^[0-9a-f]{0,128}$/)
  .optional();
const count = z.number().int().nonnegative();
const texts = (most: number, form: RegExp): z.ZodOptional<z.ZodArray<z.ZodString>> =>
  z.array(z.string().regex(form)).max(most).optional();

const entryFields = {
  event: z.string().regex(/^[a-z0-9-]{1,64}$/),
  app_id: identifier,
  instance_id: identifier,
  device_id: identifier,
  compose_hash: identifier,
  os_image_hash: identifier,
  mr_aggregated: identifier,
  platform: z.string().max(64).optional(),
  simulated: z.boolean().optional(),
  decision: z.enum(['allowed', 'denied', 'failed']),
  reason: z.string().max(1024).optional(),
  repeats: count.optional(),
  block_number: count.optional(),
  key_epoch: count.optional(),
  key_root: identifier,
  previous_keys: texts(64, /^[0-9a-f]{40}:[0-9]{1,10}$/),
  root_keys: texts(128, /^[0-9a-f]{40}$/),
  key_name: z.string().max(1024).optional(),
  certificate_key: identifier,
  certificate_names: texts(128, /^.{0,256}$/su),
  old_root: identifier,
  new_root: identifier,
  handover: z
    .string()
    .regex(/^[0-9a-f]{130}$/)
    .optional(),
};
const entrySchema = z.strictObject(entryFields);
const recordSchema = z.strictObject({
  ...entryFields,
  seq: count,
  time: z.iso.datetime(),
  prev_hash: hash,
  hash,
});

/** `prev_hash` of the first record. */
export const GENESIS: string = '00'.repeat(32);

/** A record and what is written of it. */
export type SealedRecord = {
  readonly record: AuditRecord;
  /** 32 bytes. */
  readonly hash: Uint8Array;
  /** Canonical JSON with line feed. */
  readonly line: string;
};

/** The record that follows `previousHash` as number `seq`. @throws AuditError `malformed` */
export function sealRecord(entry: AuditEntry, seq: number, time: Date, previousHash: string): SealedRecord {
  const parsed = entrySchema.safeParse(entry);
  if (!parsed.success) throw new AuditError('malformed', z.prettifyError(parsed.error));
  const body = { ...parsed.data, seq, time: time.toISOString(), prev_hash: previousHash };
  const [before, after] = membersAroundHash(body);
  const digest = createHash('sha256');
  digest.update(fromHex(previousHash));
  digest.update(`{${before},${after}}`);
  const sealed = new Uint8Array(digest.digest());
  const text = toHex(sealed);
  return { record: { ...body, hash: text }, hash: sealed, line: `{${before},"hash":"${text}",${after}}\n` };
}

/**
 * The members of canonical JSON (docs/protocol/app-compose.md section 2.2: sorted by name) before and after the place
 * of `hash`: what is hashed and what is written are the same text but for that. All values are scalars or lists of
 * texts; `event` always comes before, `seq` after.
 */
function membersAroundHash(body: Readonly<Record<string, unknown>>): [before: string, after: string] {
  const before: string[] = [];
  const after: string[] = [];
  for (const name of Object.keys(body).sort()) {
    const value = body[name];
    if (value !== undefined) (name < 'hash' ? before : after).push(`"${name}":${JSON.stringify(value)}`);
  }
  return [before.join(','), after.join(',')];
}

/** SHA-256(prev_hash || canonical JSON of the record without `hash`), docs/protocol/kms.md section 9.1. */
function recordHash(body: Omit<AuditRecord, 'hash'>): string {
  const digest = createHash('sha256');
  digest.update(fromHex(body.prev_hash));
  digest.update(utf8(canonicalJson(body)));
  return toHex(new Uint8Array(digest.digest()));
}

/**
 * One line of a log, checked against the record before it.
 * @throws AuditError `malformed`, `chain-broken`
 */
export function parseRecord(line: string, seq: number, previousHash: string): AuditRecord {
  if (line.length > MAX_RECORD_BYTES) throw new AuditError('malformed', `Record ${seq} is too long`);
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new AuditError('malformed', `Record ${seq} is no JSON`, { cause });
  }
  const parsed = recordSchema.safeParse(value);
  if (!parsed.success) {
    throw new AuditError('malformed', `Record ${seq}: ${z.prettifyError(parsed.error)}`);
  }
  const { hash: stated, ...body } = parsed.data;
  if (body.seq !== seq) throw new AuditError('chain-broken', `Record ${seq} calls itself ${body.seq}`);
  if (body.prev_hash !== previousHash) {
    throw new AuditError('chain-broken', `Record ${seq} does not follow the record before it`);
  }
  if (recordHash(body) !== stated) throw new AuditError('chain-broken', `Record ${seq} was changed`);
  return parsed.data;
}
