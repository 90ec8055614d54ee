import { type FileHandle, mkdir, open, readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { KmsError } from '../errors.ts';
import { type AuditLine, type AuditPosition, checkLine } from './audit-record.ts';

const ACTIVE = 'audit.log';
const NO_HASH = new Uint8Array(32);

/** A hash-chained log in files: the active segment and the ones before it. */
export type AuditStore = {
  /** Number of records so far, which is the `seq` of the next one. */
  readonly size: number;
  /** Hash of the last record; zeros when there is none. */
  readonly headHash: Uint8Array;
  /** Writes records, in order, and returns when they are on disk; on failure none of them counts. */
  append(records: readonly ((position: AuditPosition) => AuditLine)[], now: number): Promise<void>;
  /** Lines from `seq` on, at most `limit`. */
  read(seq: number, limit: number): Promise<string[]>;
  close(): Promise<void>;
};

export type AuditStoreOptions = {
  readonly maxSegmentBytes: number;
  /** Told about each line, in order, when the log is opened and as it grows. */
  readonly onLine?: (line: string) => void;
};

/**
 * Opens the log in a directory. A last line that a crash left half written is cut off, since it was never
 * acknowledged; anything else that does not chain is refused.
 * @throws KmsError `audit-write-failed`
 */
export async function openAuditStore(directory: string, options: AuditStoreOptions): Promise<AuditStore> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const store = new FileAuditStore(directory, options);
  await store.open();
  return store;
}

type State = { size: number; time: number; headHash: Uint8Array };

class FileAuditStore implements AuditStore {
  readonly #directory: string;
  readonly #options: AuditStoreOptions;
  #state: State = { size: 0, time: 0, headHash: NO_HASH };
  #segmentStart = 0;
  #file: FileHandle | undefined;
  #length = 0;

  constructor(directory: string, options: AuditStoreOptions) {
    this.#directory = directory;
    this.#options = options;
  }

  get size(): number {
    return this.#state.size;
  }

  get headHash(): Uint8Array {
    return this.#state.headHash;
  }

  async open(): Promise<void> {
    for (const { name } of await this.#segments()) {
      const text = await readFile(join(this.#directory, name), 'utf8');
      const whole = text.slice(0, text.lastIndexOf('\n') + 1);
      if (name === ACTIVE) this.#segmentStart = this.#state.size;
      else if (whole.length !== text.length) throw this.#broken(name);
      for (const line of whole.split('\n').slice(0, -1)) this.#follow(line, name);
      this.#length = Buffer.byteLength(whole);
    }
    await this.#openActive();
  }

  async append(records: readonly ((position: AuditPosition) => AuditLine)[], now: number): Promise<void> {
    if (this.#file === undefined) await this.#openActive();
    let { size, time, headHash } = this.#state;
    const lines: string[] = [];
    for (const record of records) {
      // A clock that jumps back must not make the log look out of order.
      time = Math.max(time, Math.floor(now));
      const { line, hash } = record({ seq: size, time, previousHash: headHash });
      lines.push(line);
      headHash = hash;
      size += 1;
    }
    const bytes = Buffer.from(`${lines.join('\n')}\n`, 'utf8');
    await this.#write(bytes);
    this.#state = { size, time, headHash };
    for (const line of lines) this.#options.onLine?.(line);
    if (this.#length >= this.#options.maxSegmentBytes) await this.#rotate();
  }

  async read(seq: number, limit: number): Promise<string[]> {
    const lines: string[] = [];
    for (const { name, start, end } of await this.#segments()) {
      if (end <= seq || lines.length >= limit) continue;
      const text = await readFile(join(this.#directory, name), 'utf8');
      const all = text.split('\n').slice(0, -1);
      lines.push(...all.slice(Math.max(0, seq - start), Math.max(0, seq - start) + limit - lines.length));
    }
    return lines.slice(0, Math.max(0, Math.min(limit, this.#state.size - seq)));
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  /** Writes at the known end and flushes; what a failed write left behind is cut off before the next one. */
  async #write(bytes: Uint8Array): Promise<void> {
    const file = this.#file!;
    try {
      let written = 0;
      while (written < bytes.length) {
        const { bytesWritten } = await file.write(
          bytes,
          written,
          bytes.length - written,
          this.#length + written,
        );
        if (bytesWritten === 0) throw new Error('nothing could be written');
        written += bytesWritten;
      }
      await file.datasync();
      this.#length += bytes.length;
    } catch (error) {
      // After a failed flush the state of the file is unknown: it is reopened and cut to what counts.
      this.#file = undefined;
      await file.close().catch(() => undefined);
      throw error;
    }
  }

  async #openActive(): Promise<void> {
    const path = join(this.#directory, ACTIVE);
    const file = await open(path, 'r+').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return open(path, 'wx+', 0o600);
      throw error;
    });
    await file.truncate(this.#length);
    this.#file = file;
  }

  /** The full segment gets the number of its first record as its name. */
  async #rotate(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
    const name = `audit-${String(this.#segmentStart).padStart(12, '0')}.log`;
    await rename(join(this.#directory, ACTIVE), join(this.#directory, name));
    this.#segmentStart = this.#state.size;
    this.#length = 0;
    await this.#openActive();
  }

  async #segments(): Promise<{ name: string; start: number; end: number }[]> {
    const names = (await readdir(this.#directory)).filter((name) => /^audit-\d{12}\.log$/.test(name)).sort();
    const starts = [...names.map((name) => Number(name.slice(6, 18))), this.#segmentStart];
    const closed = names.map((name, index) => ({ name, start: starts[index]!, end: starts[index + 1]! }));
    const active = (await readdir(this.#directory)).includes(ACTIVE);
    return active ? [...closed, { name: ACTIVE, start: this.#segmentStart, end: Infinity }] : closed;
  }

  #follow(line: string, name: string): void {
    const record = checkLine(line, this.#state.headHash);
    if (record === undefined || record.seq !== this.#state.size) throw this.#broken(name);
    this.#state = { size: record.seq + 1, time: record.time, headHash: record.hash };
    this.#options.onLine?.(line);
  }

  #broken(name: string): KmsError {
    const path = join(this.#directory, name);
    return new KmsError(
      'audit-write-failed',
      `Audit log ${path} was changed or damaged at record ${this.#state.size}; move the directory away to begin a new log`,
    );
  }
}
