import { writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import type { Output } from './line-buffer.ts';

/** For how long the end of a process waits for who reads its log. */
const LAST_WAIT_MS = 2_000;

/** It holds a few pieces at a time; by default it would be given as much memory as the process itself. */
const LIMITS = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 64, stackSizeMb: 1 };

/** What the thread does: writes each message whole, one after the other, and counts them. CommonJS; it is all of its program. */
const PROGRAM = `
const { writeSync } = require('node:fs');
const { parentPort, workerData: { fd, done } } = require('node:worker_threads');
const never = new Int32Array(new SharedArrayBuffer(4));
parentPort.on('message', (text) => {
  let bytes = Buffer.from(text);
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(writeSync(fd, bytes));
    } catch (error) {
      // A pipe that is full, and does not wait by itself; anything else: nobody reads any more.
      if (error.code !== 'EAGAIN') break;
      Atomics.wait(never, 0, 0, 10);
    }
  }
  Atomics.add(done, 0, 1);
  Atomics.notify(done, 0);
});
`;

/**
 * Writes to a file descriptor beside the event loop, in order, and can be waited for without it. Node's own asynchronous
 * writes cannot: at the end of a process one may still be on its way, and what is then written synchronously comes
 * before it. The thread begins with the first piece.
 */
export class OutputThread implements Output {
  readonly #fd: number;
  readonly #done = new Int32Array(new SharedArrayBuffer(4));
  #sent = 0;
  #thread: Worker | undefined;
  #isBroken = false;

  constructor(fd: number) {
    this.#fd = fd;
  }

  write(text: string): void {
    if (this.#isBroken) {
      writeSync(this.#fd, text);
      return;
    }
    this.#thread ??= this.#start();
    // Wraps as the counter does.
    this.#sent = (this.#sent + 1) | 0;
    this.#thread.postMessage(text);
  }

  /** Waits until all is written, two seconds at most: a reader that stands still does not keep the process. */
  flushSync(): void {
    const deadline = performance.now() + LAST_WAIT_MS;
    for (;;) {
      const done = Atomics.load(this.#done, 0);
      const left = deadline - performance.now();
      if (done === this.#sent || this.#isBroken || left <= 0) return;
      Atomics.wait(this.#done, 0, done, left);
    }
  }

  #start(): Worker {
    const thread = new Worker(PROGRAM, {
      eval: true,
      // Nothing of what this process was started with concerns it.
      execArgv: [],
      workerData: { fd: this.#fd, done: this.#done },
      resourceLimits: LIMITS,
    });
    // It ends with the process, and only then; a system that has no room for it gets its log all the same.
    thread.on('error', () => {
      this.#isBroken = true;
    });
    thread.unref();
    return thread;
  }
}
