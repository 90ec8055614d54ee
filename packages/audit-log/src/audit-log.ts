import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { concatBytes, toHex, utf8 } from '@dstack-cloud/encoding';
import { type AppendFile, type OpenAppendFile, openAppendFile } from './append-file.ts';
import { AuditError } from './errors.ts';
import { hashFilePath, hashFileReader } from './hash-file.ts';
import { MerkleTree } from './merkle-tree.ts';
import { PackedHashes } from './packed-hashes.ts';
import { type AuditEntry, type AuditRecord, type SealedRecord, sealRecord } from './record.ts';
import { RecordIndex } from './record-index.ts';
import { dropOldSegments, type LoadedLog, loadLog, segmentLines, segmentName } from './segments.ts';
import { type SignedTreeHead, signTreeHead } from './tree-head.ts';

export type AuditLogOptions = {
  directory: string;
  /** Audit key, 32 bytes; see `auditKey`. */
  key: Uint8Array;
  /** Clock, in milliseconds; default the system's. */
  now?: () => number;
  /** A segment is closed when it is larger; default 64 MiB. */
  segmentBytes?: number;
  /** Segments kept; older ones are removed, the hashes of their records stay. Default: all. */
  keepSegments?: number;
  open?: OpenAppendFile;
};

/** Enough to make the rewrite of a large file few writes. */
const HASHES_PER_WRITE = 4096;
const HASH_BYTES = 32;

type OpenedState = {
  readonly tree: MerkleTree;
  readonly index: RecordIndex;
  readonly loaded: LoadedLog;
  readonly hashes: AppendFile;
  readonly segment: AppendFile;
  readonly segmentPath: string;
};

type Waiting = { entry: AuditEntry; resolve(record: AuditRecord): void; reject(error: Error): void };

/**
 * The append-only log of decisions. A record is durable when `append` resolves; whoever acts on a decision waits
 * for that. Records that arrive while a write is under way share the next write and its fsync.
 */
export class AuditLog {
  readonly #options: AuditLogOptions;
  readonly #tree: MerkleTree;
  readonly #index: RecordIndex;
  /**
   * Records that were not there any more when the log was opened, though their hashes were. A crash may take a few
   * that nobody was told of; anything else took them against the promise of this log.
   */
  readonly lost: number;
  readonly #open: OpenAppendFile;
  readonly #now: () => number;
  #segmentPath: string;
  #segment: AppendFile;
  #segmentBytes: number;
  #hashes: AppendFile;
  #lastHash: string;
  #lastHeadTime = 0;
  #waiting: Waiting[] = [];
  #writing: Promise<void> | undefined;
  #poisoned: unknown;

  private constructor(options: AuditLogOptions, state: OpenedState) {
    this.#options = options;
    this.#open = options.open ?? openAppendFile;
    this.#now = options.now ?? Date.now;
    this.#tree = state.tree;
    this.#index = state.index;
    this.#segmentPath = state.segmentPath;
    this.#segment = state.segment;
    this.#segmentBytes = state.loaded.newest?.bytes ?? 0;
    this.#hashes = state.hashes;
    this.#lastHash = state.loaded.lastHash;
    this.lost = state.loaded.lost;
  }

  /**
   * Opens the log of a directory, or begins one. Cuts off what a crash left half written.
   * @throws AuditError `malformed`, `chain-broken`, `write-failed`
   */
  static async open(options: AuditLogOptions): Promise<AuditLog> {
    const { directory, open = openAppendFile } = options;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const tree = new MerkleTree(hashFileReader(directory));
    const index = new RecordIndex();
    const all = new PackedHashes();
    const loaded = await loadLog(directory, true, (hash, found) => {
      tree.append(hash);
      all.push(hash);
      if (found) index.note(found.record.seq, found.path, found.offset);
    });
    const opened: AppendFile[] = [];
    try {
      const hashes = await open(hashFilePath(directory));
      opened.push(hashes);
      // Only what is missing is written: hashes of records that were rotated away exist nowhere else.
      await hashes.truncate(loaded.hashesKept * HASH_BYTES);
      for (let at = loaded.hashesKept; at < all.length; at += HASHES_PER_WRITE) {
        const count = Math.min(HASHES_PER_WRITE, all.length - at);
        await hashes.append(
          concatBytes(...Array.from({ length: count }, (_, offset) => all.get(at + offset)!)),
        );
      }
      await hashes.sync();
      const segmentPath = loaded.newest?.path ?? join(directory, segmentName(loaded.size));
      const segment = await open(segmentPath);
      return new AuditLog(options, { tree, index, loaded, hashes, segment, segmentPath });
    } catch (cause) {
      await Promise.allSettled(opened.map((file) => file.close()));
      throw new AuditError('write-failed', 'The audit log cannot be opened for writing', { cause });
    }
  }

  /** Number of records. */
  get size(): number {
    return this.#tree.size;
  }

  /**
   * Records one decision; resolves when the record is durable.
   * @throws AuditError `malformed` for an entry that is none, `write-failed`, `poisoned`
   */
  append(entry: AuditEntry): Promise<AuditRecord> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ entry, resolve, reject });
      this.#writing ??= this.#drain();
    });
  }

  /** The head of the log now, signed. */
  head(): SignedTreeHead {
    // A clock that jumps back must not make a later head look older.
    this.#lastHeadTime = Math.max(this.#lastHeadTime, Math.floor(this.#now() / 1000));
    return signTreeHead(this.#tree.size, this.#lastHeadTime, this.#tree.root(), this.#options.key);
  }

  /**
   * At most `limit` records from number `from` on, as the canonical lines that are hashed. Records that were rotated
   * away are left out.
   */
  async records(from: number, limit: number): Promise<string[]> {
    const found: string[] = [];
    let seq = 0;
    let done = '';
    for (const place of this.#index.from(from)) {
      // Several places may lie in one segment; the first is read on to its end.
      if (place.path === done) continue;
      done = place.path;
      seq = place.seq;
      for await (const { text, whole } of segmentLines(place.path, place.offset)) {
        if (!whole || seq >= this.#tree.size || found.length >= limit) return found;
        if (seq >= from) found.push(text);
        seq += 1;
      }
    }
    return found;
  }

  /** Hex hashes that lead from record `seq` to the root over `size` records. @throws AuditError `out-of-range` */
  inclusionProof(seq: number, size: number = this.#tree.size): string[] {
    return this.#tree.inclusionProof(seq, size).map(toHex);
  }

  /** Hex hashes that show that the log of `first` records is a prefix of that of `second`. @throws AuditError `out-of-range` */
  consistencyProof(first: number, second: number = this.#tree.size): string[] {
    return this.#tree.consistencyProof(first, second).map(toHex);
  }

  /** Waits for what is under way and closes the files. */
  async close(): Promise<void> {
    await this.#writing;
    await this.#segment.close();
    await this.#hashes.close();
  }

  async #drain(): Promise<void> {
    // Entries of the same turn of the event loop share the first write and its fsync.
    await setImmediate();
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0);
      await this.#writeBatch(batch);
    }
    this.#writing = undefined;
  }

  async #writeBatch(batch: readonly Waiting[]): Promise<void> {
    const sealed: Array<SealedRecord & { waiting: Waiting }> = [];
    let previous = this.#lastHash;
    for (const waiting of batch) {
      try {
        const seq = this.#tree.size + sealed.length;
        const next = sealRecord(waiting.entry, seq, new Date(this.#now()), previous);
        previous = next.record.hash;
        sealed.push({ ...next, waiting });
      } catch (error) {
        waiting.reject(error as Error);
      }
    }
    if (sealed.length === 0) return;
    try {
      await this.#persist(sealed);
    } catch (error) {
      for (const { waiting } of sealed) waiting.reject(error as Error);
      return;
    }
    this.#lastHash = previous;
    for (const { record, hash, waiting } of sealed) {
      this.#tree.append(hash);
      waiting.resolve(record);
    }
    await this.#rotate();
  }

  async #persist(sealed: readonly SealedRecord[]): Promise<void> {
    if (this.#poisoned !== undefined) {
      throw new AuditError('poisoned', 'The audit log is closed after a failed write', {
        cause: this.#poisoned,
      });
    }
    const encoded = sealed.map(({ line }) => utf8(line));
    try {
      await this.#segment.append(concatBytes(...encoded));
      // The hashes are made again from the records when the log is opened, so only the records need the sync.
      await this.#hashes.append(concatBytes(...sealed.map(({ hash }) => hash)));
    } catch (cause) {
      await this.#undo(cause);
      throw new AuditError('write-failed', 'The audit record cannot be written', { cause });
    }
    try {
      await this.#segment.sync();
    } catch (cause) {
      // After a failed fsync nobody knows what is on the disk, and a second fsync may wrongly succeed.
      this.#poisoned = cause;
      throw new AuditError('write-failed', 'The audit record cannot be made durable', { cause });
    }
    for (const [position, line] of encoded.entries()) {
      this.#index.note(sealed[position]!.record.seq, this.#segmentPath, this.#segmentBytes);
      this.#segmentBytes += line.length;
    }
  }

  /** Takes back a write that failed half way (a full disk), so that the log can go on when there is room again. */
  async #undo(cause: unknown): Promise<void> {
    try {
      await this.#segment.truncate(this.#segmentBytes);
      await this.#hashes.truncate(this.#tree.size * HASH_BYTES);
    } catch {
      this.#poisoned = cause;
    }
  }

  async #rotate(): Promise<void> {
    if (this.#segmentBytes < (this.#options.segmentBytes ?? 64 * 1024 * 1024)) return;
    try {
      await this.#hashes.sync();
      const path = join(this.#options.directory, segmentName(this.#tree.size));
      const next = await this.#open(path);
      await this.#segment.close();
      this.#segment = next;
      this.#segmentPath = path;
      this.#segmentBytes = 0;
      if (this.#options.keepSegments !== undefined) {
        const oldest = await dropOldSegments(this.#options.directory, this.#options.keepSegments);
        this.#index.forgetBefore(oldest?.first ?? 0);
      }
    } catch (cause) {
      // The records of this batch are durable. The next one finds the log closed rather than growing unbounded.
      this.#poisoned = cause;
    }
  }
}
