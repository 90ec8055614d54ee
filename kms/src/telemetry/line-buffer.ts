/** What takes the gathered lines. */
export type Output = {
  write(text: string): unknown;
  /** Returns when all is written. */
  flushSync(): void;
};

/**
 * Gathers lines to pieces of at most `maxBytes` before the output sees them (a longer line is a piece of its own):
 * for single lines, handing them over costs more than making them.
 */
export class LineBuffer {
  readonly #output: Output;
  readonly #maxBytes: number;
  #lines: string[] = [];
  #bytes = 0;

  constructor(output: Output, maxBytes: number) {
    this.#output = output;
    this.#maxBytes = maxBytes;
  }

  write(line: string): void {
    const bytes = Buffer.byteLength(line);
    if (this.#bytes + bytes > this.#maxBytes) this.#pass();
    this.#lines.push(line);
    this.#bytes += bytes;
  }

  /** Passes on what is held. */
  flush(): void {
    this.#pass();
  }

  /** Writes what is held, before it returns: after a fatal line, and when the process ends. */
  flushSync(): void {
    this.#pass();
    this.#output.flushSync();
  }

  #pass(): void {
    if (this.#lines.length === 0) return;
    const text = this.#lines.join('');
    this.#lines = [];
    this.#bytes = 0;
    this.#output.write(text);
  }
}
