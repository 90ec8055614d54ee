import { closeSync, fstatSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { makeOwnDirectory, openOwnFile } from '@dstack-cloud/files';

/** A log file of this size is moved to `<name>.1`, so that an application cannot fill the disk. */
const MAX_BYTES = 10 * 1024 * 1024;

/** Output of one service, standard output and standard error in the order in which they came. */
export class ServiceLog {
  readonly #path: string;
  #file: number;
  #size: number;
  #closed = false;

  constructor(path: string) {
    this.#path = path;
    makeOwnDirectory(dirname(path));
    this.#file = openOwnFile(path, 'append');
    this.#size = fstatSync(this.#file).size;
  }

  /** Appends bytes; a full disk loses log lines, not the application. */
  write(bytes: Uint8Array): void {
    // A grandchild may still hold the pipe; the descriptor's number may be another file by now.
    if (this.#closed) return;
    try {
      if (this.#size + bytes.length > MAX_BYTES) this.#rotate();
      writeSync(this.#file, bytes);
      this.#size += bytes.length;
    } catch {
      // Nothing better can be done with output that cannot be stored.
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#file);
  }

  #rotate(): void {
    closeSync(this.#file);
    renameSync(this.#path, `${this.#path}.1`);
    this.#file = openOwnFile(this.#path, 'append');
    this.#size = 0;
  }
}
