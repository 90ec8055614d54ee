import { closeSync, lstatSync, mkdirSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { printableLine } from '@dstack-cloud/encoding';
import { openOwnFile } from '@dstack-cloud/files';

/** One log grows to this size before it is moved aside. */
export const LOG_MAX_BYTES: number = 4 * 1024 * 1024;
export const LOG_BACKUPS = 3;
/** A line without an end is cut here, so that a program cannot fill the supervisor's memory. */
const MAX_LINE_BYTES = 64 * 1024;

/** An append-only log with a size limit; `path.1` is the newest backup. */
export class LogFile {
  readonly path: string;
  #size: number;

  constructor(path: string) {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    this.path = path;
    this.#size = sizeOf(path);
  }

  /** Adds a line. Guests and their programs wrote it: what it holds can neither end it nor command a terminal. */
  append(line: string): void {
    const bytes = Buffer.from(`${printableLine(line, MAX_LINE_BYTES)}\n`);
    if (this.#size + bytes.length > LOG_MAX_BYTES) this.#rotate();
    try {
      const file = openOwnFile(this.path, 'append');
      try {
        this.#size += writeSync(file, bytes);
      } finally {
        closeSync(file);
      }
    } catch {
      // A full disk must not take the machine down; the log has a gap then. So it has where something else is in its place.
    }
  }

  #rotate(): void {
    rmSync(`${this.path}.${LOG_BACKUPS}`, { force: true });
    for (let n = LOG_BACKUPS - 1; n >= 0; n -= 1) {
      const from = n === 0 ? this.path : `${this.path}.${n}`;
      try {
        renameSync(from, `${this.path}.${n + 1}`);
      } catch {
        // No such backup yet.
      }
    }
    this.#size = 0;
  }
}

/** Cuts a byte stream into lines of bounded length and hands each to `onLine`. */
export function lineSplitter(onLine: (line: string) => void): {
  write(chunk: Uint8Array): void;
  end(): void;
} {
  const decoder = new TextDecoder();
  let rest = '';
  return {
    write(chunk) {
      rest += decoder.decode(chunk, { stream: true });
      const lines = rest.split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) onLine(line);
      if (rest.length > MAX_LINE_BYTES) {
        onLine(rest);
        rest = '';
      }
    },
    end() {
      if (rest !== '') onLine(rest);
      rest = '';
    },
  };
}

function sizeOf(path: string): number {
  return lstatSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
