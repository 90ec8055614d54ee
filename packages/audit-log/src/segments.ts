import { readdir, readFile, stat, truncate, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { AuditError } from './errors.ts';
import { type AuditRecord, GENESIS, parseRecord } from './record.ts';

/** `audit-<number of its first record, 12 digits>.log`, one record a line. */
const SEGMENT = /^audit-(\d{12})\.log$/;

/** Hashes of all records, 32 bytes each: what is left of segments that were rotated away. */
export const HASHES_FILE = 'audit.hashes';

/** A segment larger than this was not written by us. */
const MAX_SEGMENT_BYTES = 1024 * 1024 * 1024;

/** File name of the segment that begins with record `seq`. */
export function segmentName(seq: number): string {
  return `audit-${String(seq).padStart(12, '0')}.log`;
}

/** The segments of a directory, oldest first. */
export async function listSegments(directory: string): Promise<Array<{ first: number; path: string }>> {
  return (await readdir(directory))
    .flatMap((name) => {
      const digits = SEGMENT.exec(name)?.[1];
      return digits === undefined ? [] : [{ first: Number(digits), path: join(directory, name) }];
    })
    .sort((a, b) => a.first - b.first);
}

/** What a directory holds. */
export type LoadedLog = {
  /** Hash of every record ever written, in order. */
  readonly hashes: Uint8Array[];
  /** Number of the oldest record that is still there whole. */
  readonly firstRecord: number;
  /** The records that are there. */
  readonly records: AuditRecord[];
  /** Path and size in bytes of the newest segment; undefined for an empty log. */
  readonly newest: { path: string; bytes: number } | undefined;
};

/**
 * Reads a log and checks that each record follows from the one before it.
 * @param repair cut off what a crash left half written: the last line without its line feed, and hashes of records
 *   that are not there. Both were never acknowledged.
 * @throws AuditError `malformed`, `chain-broken`
 */
export async function loadLog(directory: string, repair: boolean): Promise<LoadedLog> {
  const segments = await listSegments(directory);
  const stored = await readHashes(join(directory, HASHES_FILE), repair);
  const firstRecord = segments[0]?.first ?? 0;
  if (stored.length < firstRecord) {
    throw new AuditError('chain-broken', `Records ${stored.length} to ${firstRecord - 1} left no hash`);
  }
  const hashes = stored.slice(0, firstRecord);
  const records: AuditRecord[] = [];
  let newest: LoadedLog['newest'];
  for (const [index, { first, path }] of segments.entries()) {
    if (first !== hashes.length) {
      throw new AuditError('chain-broken', `Segment ${path} does not begin with record ${hashes.length}`);
    }
    const isLast = index === segments.length - 1;
    const text = await readSegment(path, repair && isLast);
    for (const line of text.split('\n').slice(0, -1)) {
      const previous = hashes.at(-1);
      const seq = hashes.length;
      const record = parseRecord(line, seq, previous === undefined ? GENESIS : toHex(previous));
      const known = stored[seq];
      if (known !== undefined && toHex(known) !== record.hash) {
        throw new AuditError('chain-broken', `Record ${seq} is not the one whose hash was kept`);
      }
      hashes.push(fromHex(record.hash));
      records.push(record);
    }
    newest = { path, bytes: Buffer.byteLength(text) };
  }
  if (!repair && stored.length > hashes.length) {
    throw new AuditError('chain-broken', `Records ${hashes.length} to ${stored.length - 1} are missing`);
  }
  return { hashes, firstRecord, records, newest };
}

async function readSegment(path: string, repair: boolean): Promise<string> {
  if ((await stat(path)).size > MAX_SEGMENT_BYTES) throw new AuditError('malformed', `${path} is too large`);
  const text = await readFile(path, 'utf8');
  const whole = text.lastIndexOf('\n') + 1;
  if (whole === text.length) return text;
  if (!repair) throw new AuditError('malformed', `The last record of ${path} is not whole`);
  const kept = text.slice(0, whole);
  await truncate(path, Buffer.byteLength(kept));
  return kept;
}

async function readHashes(path: string, repair: boolean): Promise<Uint8Array[]> {
  const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return Buffer.alloc(0);
    throw error;
  });
  if (bytes.length % 32 !== 0 && !repair) throw new AuditError('malformed', `${path} is not whole`);
  const count = Math.floor(bytes.length / 32);
  return Array.from(
    { length: count },
    (_, index) => new Uint8Array(bytes.subarray(index * 32, index * 32 + 32)),
  );
}

/** Removes the oldest segments until at most `keep` are left; the newest always stays. */
export async function dropOldSegments(directory: string, keep: number): Promise<void> {
  const segments = await listSegments(directory);
  for (const { path } of segments.slice(0, Math.max(0, segments.length - Math.max(1, keep))))
    await unlink(path);
}
