import pc from 'picocolors';

/** One finished step of the demo. */
export interface Step {
  readonly name: string;
  readonly ok: boolean;
  readonly ms: number;
  readonly detail: string;
}

/** How long nothing may be heard of a step. */
const SILENCE_MS = 20_000;

/** Runs steps one after the other, prints each, and remembers how it went. */
export class Steps {
  readonly done: Step[] = [];
  readonly #quiet: boolean;
  readonly #signal: AbortSignal;
  #lastLine = 0;

  constructor(options: { quiet: boolean; signal: AbortSignal }) {
    this.#quiet = options.quiet;
    this.#signal = options.signal;
  }

  /** One step; `work` returns its result and the sentence that says what happened. */
  async run<T>(name: string, title: string, work: () => Promise<readonly [T, string]>): Promise<T> {
    this.#signal.throwIfAborted();
    this.#print(`${pc.bold(title)}`);
    const started = performance.now();
    this.#lastLine = started;
    const waiting = setInterval(() => {
      const now = performance.now();
      if (now - this.#lastLine > SILENCE_MS) this.note(`… ${Math.round((now - started) / 1000)} s`);
    }, 1_000);
    const record = (ok: boolean, detail: string): void => {
      const step = { name, ok, ms: Math.round(performance.now() - started), detail };
      this.done.push(step);
      const mark = ok ? pc.green('✓') : pc.red('✗');
      this.#print(`${mark} ${detail} ${pc.dim(`(${step.ms} ms)`)}\n`);
    };
    try {
      const [value, detail] = await work();
      record(true, detail);
      return value;
    } catch (error) {
      record(false, error instanceof Error ? error.message : String(error));
      throw error;
    } finally {
      clearInterval(waiting);
    }
  }

  /** A line below the present step, for instance what a command printed. */
  note(text: string): void {
    for (const line of text.trimEnd().split('\n')) this.#print(pc.dim(`    ${line}`));
  }

  /** The error that ended the story, when no step has shown it. */
  fail(error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    if (this.done.at(-1)?.ok === false) return;
    this.done.push({ name: 'demo', ok: false, ms: 0, detail: message });
    process.stderr.write(`${message}\n`);
  }

  #print(text: string): void {
    this.#lastLine = performance.now();
    if (!this.#quiet) process.stdout.write(`${text}\n`);
  }
}
