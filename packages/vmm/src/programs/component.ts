import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { LogFile, lineSplitter } from '../logs/log-file.ts';
import type { Guard } from './guard.ts';
import { sendSignal } from './send-signal.ts';

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

interface ComponentOptions {
  readonly name: string;
  readonly command: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly logPath: string;
  readonly serial: LogFile;
  readonly guard: Guard;
  /** Takes the lines of standard output, which then are in no log. */
  readonly onOutput?: (line: string) => void;
}

const TAIL_LINES = 20;

/** One program of a machine, in a process group of its own, its output in a log and on the serial console. */
export class Component {
  readonly name: string;
  /** Settles when the program has ended; never rejects. */
  readonly exited: Promise<Exit>;
  readonly #child: ChildProcess;
  readonly #tail: string[] = [];

  constructor(options: ComponentOptions) {
    this.name = options.name;
    const [program, ...args] = options.command as [string, ...string[]];
    const log = new LogFile(options.logPath);
    this.#child = spawn(program, args, {
      cwd: options.cwd,
      env: options.env,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    const record = (line: string): void => {
      log.append(line);
      options.serial.append(`[${options.name}] ${line}`);
      this.#tail.push(line);
      if (this.#tail.length > TAIL_LINES) this.#tail.shift();
    };
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      const splitter = lineSplitter((stream === this.#child.stdout ? options.onOutput : undefined) ?? record);
      stream?.on('data', (chunk: Uint8Array) => splitter.write(chunk));
      stream?.on('end', () => splitter.end());
    }
    const pid = this.#child.pid;
    if (pid !== undefined) options.guard.watchGroup(pid);
    this.exited = new Promise((resolve) => {
      this.#child.once('error', (error) => {
        record(`Cannot start ${program}: ${error.message}`);
        resolve({ code: 127, signal: null });
      });
      this.#child.once('exit', (code, signal) => {
        // The leader is gone, but what it started may not be.
        if (pid !== undefined) {
          sendSignal(-pid, 'SIGKILL');
          options.guard.forget(pid);
        }
        resolve({ code, signal });
      });
    });
  }

  /** Undefined when it could not be started. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null && this.#child.pid !== undefined;
  }

  /** The last lines it printed, for an error message. */
  get tail(): readonly string[] {
    return this.#tail;
  }

  /** Asks the program to end, then ends its group. */
  async stop(graceMs: number): Promise<void> {
    const pid = this.#child.pid;
    if (pid === undefined || !this.running) return;
    sendSignal(pid, 'SIGTERM');
    const deadline = new AbortController();
    const late = sleep(graceMs, 'late', { signal: deadline.signal }).catch(() => 'cancelled');
    if ((await Promise.race([this.exited, late])) === 'late') sendSignal(-pid, 'SIGKILL');
    deadline.abort();
    await this.exited;
  }
}
