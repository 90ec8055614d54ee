import { writeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Output } from './line-buffer.ts';

/** What waits for a reader that stands still. Beyond it lines are lost, and the log says how many. */
const MAX_WAITING_BYTES = 8 * 2 ** 20;
/** A pipe that was full is tried again after so long. */
const RETRY_MS = 10;
/** For how long the end of a process waits for who reads its log. */
const LAST_WAIT_MS = 2_000;

const never = new Int32Array(new SharedArrayBuffer(4));

/**
 * Writes to a file descriptor in order and without waiting for who reads it: what a pipe does not take now is tried
 * again a moment later. There is never a write on its way beside the program, as with Node's own streams, so that at
 * the end of the process the rest can be written where it stopped. (A thread that writes would cost 20 MB.)
 */
export class DescriptorOutput implements Output {
  readonly #fd: number;
  readonly #lostLine: (lines: number) => string;
  #waiting: Buffer[] = [];
  #bytes = 0;
  #lost = 0;
  #timer: NodeJS.Timeout | undefined;
  #isBroken = false;

  /** @param lostLine what the log says about so many lines that it lost */
  constructor(fd: number, lostLine: (lines: number) => string) {
    this.#fd = fd;
    this.#lostLine = lostLine;
    neverWait(fd);
  }

  write(text: string): void {
    if (this.#isBroken) return;
    const piece = Buffer.from(text);
    if (this.#bytes + piece.length > MAX_WAITING_BYTES) {
      this.#lost += linesIn(piece);
      return;
    }
    this.#add(piece);
    this.#go();
  }

  flushSync(): void {
    const deadline = performance.now() + LAST_WAIT_MS;
    while (!this.#drain() && performance.now() < deadline) Atomics.wait(never, 0, 0, RETRY_MS);
  }

  #go(): void {
    if (this.#timer !== undefined || this.#drain()) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#go();
    }, RETRY_MS);
    this.#timer.unref();
  }

  #add(piece: Buffer): void {
    this.#waiting.push(piece);
    this.#bytes += piece.length;
  }

  /** Writes as much as is taken. @returns whether nothing waits any more */
  #drain(): boolean {
    try {
      for (let piece = this.#waiting[0]; piece !== undefined; piece = this.#waiting[0]) {
        const written = writeSync(this.#fd, piece);
        this.#bytes -= written;
        if (written < piece.length) this.#waiting[0] = piece.subarray(written);
        else this.#waiting.shift();
        if (this.#waiting.length === 0 && this.#lost > 0) {
          this.#add(Buffer.from(this.#lostLine(this.#lost)));
          this.#lost = 0;
        }
      }
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EAGAIN') return false;
      // A full disk may pass; otherwise nobody reads any more.
      this.#isBroken = code !== 'ENOSPC';
      for (const piece of this.#waiting) this.#lost += linesIn(piece);
      this.#waiting = [];
      this.#bytes = 0;
    }
    return true;
  }
}

function linesIn(piece: Buffer): number {
  let lines = 0;
  for (const byte of piece) if (byte === 0x0a) lines += 1;
  return lines;
}

/** Never closed, and never written to: each keeps its descriptor as it is. */
const modes: Socket[] = [];

/** Makes a full pipe or socket answer at once. Node gives no other way to say so; files and terminals do not need it. */
function neverWait(fd: number): void {
  try {
    modes.push(new Socket({ fd, readable: false, writable: true }).unref());
  } catch {
    // No pipe and no socket.
  }
}
