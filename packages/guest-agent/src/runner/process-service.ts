import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RestartPolicy } from '@dstack-cloud/app/compose-file';
import { GuestError } from '../errors.ts';
import { BackOff } from './back-off.ts';
import { descendants, killProcess } from './descendants.ts';
import type { ServiceLog } from './service-log.ts';

/** How one service is run. */
export interface ProcessServiceOptions {
  readonly name: string;
  readonly argv: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly restart: RestartPolicy;
  readonly stopSignal: NodeJS.Signals;
  readonly stopGraceMs: number;
  readonly log: ServiceLog;
  /** Called at each change of state, for the list of containers. */
  readonly onChange: () => void;
  /** Called with one line for the operator. */
  readonly say: (line: string) => void;
}

/** State of a service as an engine would name it. */
export type ServiceState = 'running' | 'restarting' | 'exited';

/**
 * One service as a plain child process, restarted as its policy says. It stays in our process group, so that whoever
 * ends the group ends it too, even when this program was killed.
 */
export class ProcessService {
  readonly name: string;
  state: ServiceState = 'exited';
  startedAt = 0;
  exitCode: number | undefined;
  readonly #options: ProcessServiceOptions;
  readonly #stopping = new AbortController();
  readonly #backOff = new BackOff();
  #child: ChildProcess | undefined;
  #restarts = 0;
  #loop: Promise<void> | undefined;

  constructor(options: ProcessServiceOptions) {
    this.name = options.name;
    this.#options = options;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Starts it; rejects when its program cannot be started at all. @throws GuestError `start-failed` */
  async start(): Promise<void> {
    const run = this.#spawn();
    await run.started;
    this.#loop = this.#supervise(run);
  }

  /** Resolves when it has ended and is not started again, with its last status. */
  async ended(): Promise<number | undefined> {
    await this.#loop;
    return this.exitCode;
  }

  /** Ends the process and everything below it; resolves when it is gone. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const child = this.#child;
    const pid = child?.pid;
    if (child !== undefined && pid !== undefined && this.state === 'running') {
      const late = new AbortController();
      const below = descendants(pid);
      child.kill(this.#options.stopSignal);
      const grace = sleep(this.#options.stopGraceMs, 'late', { signal: late.signal }).catch(() => 'ended');
      await Promise.race([this.#loop, grace]);
      late.abort();
      // Also when it ended by itself: what it started may not have noticed.
      for (const member of [...below, ...descendants(pid)]) killProcess(member);
      if (this.state === 'running') child.kill('SIGKILL');
    }
    await this.#loop;
    this.#options.log.close();
  }

  async #supervise(first: Run): Promise<void> {
    const { signal } = this.#stopping;
    for (let run = first; ; run = this.#spawn()) {
      run.started.catch(() => undefined);
      const exit = await run.exited;
      this.exitCode = exit.code;
      if (signal.aborted) return this.#become('exited');
      if (!this.#again(exit)) {
        this.#options.say(`${this.name} ended with ${exit.text}`);
        return this.#become('exited');
      }
      const wait = this.#backOff.after(Date.now() - this.startedAt);
      this.#options.say(`${this.name} ended with ${exit.text}; it is started again in ${wait} ms`);
      this.#become('restarting');
      await sleep(wait, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return this.#become('exited');
    }
  }

  #again(exit: Exit): boolean {
    const { when, max } = this.#options.restart;
    if (when === 'always') return true;
    return when === 'on-failure' && exit.code !== 0 && this.#restarts++ < max;
  }

  #spawn(): Run {
    const { argv, cwd, env, log } = this.#options;
    const [program, ...args] = argv as [string, ...string[]];
    const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    this.startedAt = Date.now();
    child.stdout.on('data', (bytes: Uint8Array) => log.write(bytes));
    child.stderr.on('data', (bytes: Uint8Array) => log.write(bytes));
    const started = new Promise<void>((resolve, reject) => {
      child.once('spawn', () => {
        this.#become('running');
        resolve();
      });
      child.once('error', (cause) =>
        reject(
          new GuestError('start-failed', `Service ${this.name} cannot be started: ${cause.message}`, {
            cause,
          }),
        ),
      );
    });
    const exited = new Promise<Exit>((resolve) => {
      child.once('error', (error) => resolve({ code: 127, text: error.message }));
      child.once('exit', (code, signal) =>
        resolve({ code: code ?? 128, text: signal === null ? `status ${code}` : `signal ${signal}` }),
      );
    });
    return { started, exited };
  }

  #become(state: ServiceState): void {
    this.state = state;
    this.#options.onChange();
  }
}

interface Run {
  readonly started: Promise<void>;
  readonly exited: Promise<Exit>;
}

interface Exit {
  readonly code: number;
  readonly text: string;
}
