import { createReadStream } from 'node:fs';
import { readdir, truncate, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fromHex, isZero, toHex, utf8Text } from '@dstack-cloud/encoding';
import { AuditError } from './errors.ts';
import { readHashFile } from './hash-file.ts';
import { type AuditRecord, GENESIS, MAX_RECORD_BYTES, parseRecord } from './record.ts';

/** `audit-<number of its first record, 12 digits>.log`, one record a line. */
const SEGMENT = /^audit-(\d{12})\.log$/;
const LINE_FEED = 10;

/** File name of the segment that begins with record `seq`. */
export function segmentName(seq: number): string {
  return `audit-${String(seq).padStart(12, '0')}.log`;
}

export type Segment = { readonly first: number; readonly path: string };

/** The segments of a directory, oldest first. */
export async function listSegments(directory: string): Promise<Segment[]> {
  return (await readdir(directory))
    .flatMap((name) => {
      const digits = SEGMENT.exec(name)?.[1];
      return digits === undefined ? [] : [{ first: Number(digits), path: join(directory, name) }];
    })
    .sort((a, b) => a.first - b.first);
}

/** One line of a segment: where it begins, its text, and whether its line feed is there. */
type Line = { readonly offset: number; readonly text: string; readonly whole: boolean };

/** The lines of a segment from byte `start` on, in bounded memory. @throws AuditError `malformed` */
export async function* segmentLines(path: string, start = 0): AsyncGenerator<Line> {
  let offset = start;
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of createReadStream(path, { start }) as AsyncIterable<Buffer>) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(LINE_FEED); end >= 0; end = rest.indexOf(LINE_FEED)) {
      yield { offset, text: utf8Text(rest.subarray(0, end)), whole: true };
      offset += end + 1;
      rest = rest.subarray(end + 1);
    }
    if (rest.length > MAX_RECORD_BYTES) {
      // Bytes that never reached the disk read as zero, which no record contains; they were never acknowledged.
      if (!rest.includes(0)) throw new AuditError('malformed', `${path} has a line without an end`);
      yield { offset, text: '', whole: false };
      return;
    }
  }
  if (rest.length > 0) yield { offset, text: rest.toString('latin1'), whole: false };
}

/** What a directory holds. */
export type LoadedLog = {
  /** Number of records ever written. */
  readonly size: number;
  /** Hash of the last one, hex. */
  readonly lastHash: string;
  /** Number of the oldest record that is still there whole. */
  readonly firstRecord: number;
  /** The newest segment and its size in bytes; undefined for an empty log. */
  readonly newest: { path: string; bytes: number } | undefined;
  /** How many hashes of the hash file stand as they should; what follows is missing or was never acknowledged. */
  readonly hashesKept: number;
  /** Hashes behind the last record, whose records are gone. */
  readonly lost: number;
};

/** Told of every record hash in order, and of the record itself where it is still there. */
export type Visit = (hash: Uint8Array, found?: { record: AuditRecord; path: string; offset: number }) => void;

/**
 * Reads a log from its beginning and checks that each record follows from the one before it.
 * @param repair cut off what a crash left half written: the last line without its line feed, and hashes of records
 *   that are not there. Neither was ever acknowledged.
 * @throws AuditError `malformed`, `chain-broken`
 */
export async function loadLog(directory: string, repair: boolean, visit: Visit): Promise<LoadedLog> {
  const segments = await listSegments(directory);
  const stored = await readHashFile(directory, repair);
  const firstRecord = segments[0]?.first ?? 0;
  if (stored.length < firstRecord) {
    throw new AuditError('chain-broken', `Records ${stored.length} to ${firstRecord - 1} left no hash`);
  }
  let lastHash = GENESIS;
  let size = 0;
  for (; size < firstRecord; size++) {
    const hash = stored.get(size)!;
    lastHash = toHex(hash);
    visit(hash);
  }
  let newest: LoadedLog['newest'];
  let hashesKept = firstRecord;
  for (const [index, { first, path }] of segments.entries()) {
    if (first !== size) {
      throw new AuditError('chain-broken', `Segment ${path} does not begin with record ${size}`);
    }
    let bytes = 0;
    for await (const { offset, text, whole } of segmentLines(path)) {
      if (!whole) {
        if (!repair || index !== segments.length - 1) {
          throw new AuditError('malformed', `The last record of ${path} is not whole`);
        }
        await truncate(path, offset);
        break;
      }
      const record = parseRecord(text, size, lastHash);
      const known = stored.get(size);
      // The hashes of the newest segment need not have reached the disk when the power went: then they read as zero.
      const lost = known !== undefined && repair && index === segments.length - 1 && isZero(known);
      if (known !== undefined && !lost && toHex(known) !== record.hash) {
        throw new AuditError('chain-broken', `Record ${size} is not the one whose hash was kept`);
      }
      if (known !== undefined && !lost && hashesKept === size) hashesKept = size + 1;
      visit(fromHex(record.hash), { record, path, offset });
      lastHash = record.hash;
      size += 1;
      bytes = offset + Buffer.byteLength(text) + 1;
    }
    newest = { path, bytes };
  }
  if (!repair && stored.length > size) {
    throw new AuditError('chain-broken', `Records ${size} to ${stored.length - 1} are missing`);
  }
  let lost = 0;
  for (let seq = size; seq < stored.length; seq++) if (!isZero(stored.get(seq)!)) lost += 1;
  return { size, lastHash, firstRecord, newest, hashesKept, lost };
}

/** Removes the oldest segments until at most `keep` are left; the newest always stays. Gives the oldest that is left. */
export async function dropOldSegments(directory: string, keep: number): Promise<Segment | undefined> {
  const segments = await listSegments(directory);
  const surplus = Math.max(0, segments.length - Math.max(1, keep));
  for (const { path } of segments.slice(0, surplus)) await unlink(path);
  return segments[surplus];
}
