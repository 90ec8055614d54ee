import { closeSync, fstatSync, fsync, readFileSync, writeSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { utf8Text } from '@dstack-cloud/encoding';
import { FilesError, isThere, openOwnFile, syncDirectory, writeSynced } from '@dstack-cloud/files';
import type { RuntimeEvent } from '../../attestation.ts';
import { AttestationError } from '../../errors.ts';
import { eventLine, MAX_EVENTS, parseEventLines } from './event-line.ts';
import { withLogLock } from './log-lock.ts';

const MAX_LOG_BYTES = 16 << 20;
const sync = promisify(fsync);

/** What extends the registers for one event. */
export type Extend = (event: RuntimeEvent) => Promise<void>;

/**
 * The log of the events that were extended into the runtime registers. Extension and line go together: before the
 * extension a marker file is made, and it goes only when the line is on the disk. A marker that stays (a failed
 * extension, a full disk, a killed program) poisons the log until the next boot: register and log may differ, and no
 * evidence is given that would not replay.
 */
export class RuntimeEventLog {
  readonly #path: string;
  readonly #marker: string;

  constructor(path: string) {
    this.#path = path;
    this.#marker = `${path}.unfinished`;
  }

  /** Extends and appends under the lock. @throws AttestationError `event-log`, `device`, `too-large` */
  async emit(event: RuntimeEvent, extend: Extend): Promise<void> {
    const line = eventLine(event);
    await this.exclusive(async (events) => {
      if (events.length >= MAX_EVENTS) throw new AttestationError('too-large', 'The event log is full');
      await this.#mark();
      try {
        await extend(event);
        await this.#append(line);
        await this.#unmark();
      } catch (cause) {
        throw poisoned(this.#path, cause);
      }
    });
  }

  /** Runs `body` with the events so far, while nobody can add one. @throws AttestationError `event-log` if poisoned */
  async exclusive<T>(body: (events: RuntimeEvent[]) => Promise<T>): Promise<T> {
    await makeDirectory(this.#path);
    return await withLogLock(this.#path, async () => {
      if (exists(this.#marker)) throw poisoned(this.#path);
      return await body(this.#read());
    });
  }

  /**
   * Forgets an earlier boot when `fresh` says that the registers are still zero: nothing was extended, so the empty log
   * is the true one. In a real machine the log lies in memory and is gone with the boot anyway.
   */
  async forgetEarlierBoot(fresh: () => Promise<boolean>): Promise<void> {
    await makeDirectory(this.#path);
    await withLogLock(this.#path, async () => {
      if (!exists(this.#path) && !exists(this.#marker)) return;
      if (!(await fresh())) return;
      await rm(this.#path, { force: true });
      await rm(this.#marker, { force: true });
      await syncDirectory(dirname(this.#path));
    });
  }

  #read(): RuntimeEvent[] {
    let file: number;
    try {
      file = openOwnFile(this.#path, 'read');
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw unusable(this.#path, cause);
    }
    try {
      const { size } = fstatSync(file);
      if (size > MAX_LOG_BYTES) throw new AttestationError('too-large', `Event log of ${size} bytes`);
      const text = utf8Text(new Uint8Array(readFileSync(file)));
      // A line without its end was cut off while it was written.
      if (text !== '' && !text.endsWith('\n')) throw poisoned(this.#path);
      return parseEventLines(text);
    } finally {
      closeSync(file);
    }
  }

  async #append(line: string): Promise<void> {
    const file = openOwnFile(this.#path, 'append');
    try {
      const bytes = Buffer.from(line);
      const written = writeSync(file, bytes);
      if (written !== bytes.length) throw new Error(`Short write: ${written} of ${bytes.length}`);
      await sync(file);
    } finally {
      closeSync(file);
    }
  }

  async #mark(): Promise<void> {
    try {
      await writeSynced(this.#marker, '', 0o600);
      await syncDirectory(dirname(this.#marker));
    } catch (cause) {
      // Nothing was extended yet: an event that cannot be logged is refused without harm.
      await rm(this.#marker, { force: true }).catch(() => undefined);
      throw new AttestationError('device', `Cannot write beside ${this.#path}`, { cause });
    }
  }

  async #unmark(): Promise<void> {
    await rm(this.#marker);
    await syncDirectory(dirname(this.#marker));
  }
}

function poisoned(path: string, cause?: unknown): AttestationError {
  const reason = cause instanceof Error ? `: ${cause.message}` : '';
  return new AttestationError(
    'event-log',
    `An event was not recorded completely in ${path}; registers and log may differ until the next boot${reason}`,
    { cause },
  );
}

async function makeDirectory(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
}

function exists(path: string): boolean {
  try {
    return isThere(path);
  } catch (cause) {
    throw new AttestationError('event-log', `Cannot look for ${path}`, { cause });
  }
}

function unusable(path: string, cause: unknown): AttestationError {
  const reason = cause instanceof FilesError ? `: ${cause.message}` : '';
  return new AttestationError('event-log', `Cannot read ${path}${reason}`, { cause });
}
