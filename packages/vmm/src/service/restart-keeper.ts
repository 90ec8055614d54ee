import { readState } from '../state/state.ts';
import type { VmmConfig } from './config/vmm-config.ts';
import type { Machine } from './machines/machine.ts';
import type { Machines } from './machines/machines.ts';

type Attempts = { count: number; next: number; since: number };
type Told = {
  restarted(id: string, attempt: number): void;
  gaveUp(id: string, attempts: number): void;
  stopped(id: string): void;
  failed(id: string, error: unknown): void;
};

/**
 * Sees to it that machines which are to run do. Their supervisors start QEMU again when it ends; this starts those whose
 * supervisor is gone: killed, or ended with the host.
 */
export class RestartKeeper {
  readonly #machines: Pick<Machines, 'list' | 'restart' | 'isStopping' | 'hasStopped'>;
  readonly #config: VmmConfig['cvm']['auto_restart'];
  readonly #told: Told;
  readonly #now: () => number;
  readonly #attempts = new Map<string, Attempts>();
  /** Those that ran when they were looked at last. */
  #alive = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(
    machines: Pick<Machines, 'list' | 'restart' | 'isStopping' | 'hasStopped'>,
    config: VmmConfig['cvm']['auto_restart'],
    told: Told,
    now: () => number = () => performance.now(),
  ) {
    this.#machines = machines;
    this.#config = config;
    this.#told = told;
    this.#now = now;
  }

  /** Starts what is to run, whatever it was last seen doing: the host may have been restarted. */
  async begin(): Promise<void> {
    for (const machine of await this.#machines.list())
      if (machine.isAlive) this.#alive.add(machine.id);
      else if (machine.record.started && this.#config.enabled) await this.#restart(machine.id);
    this.#schedule();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  /** One look at all machines. */
  async look(): Promise<void> {
    const machines = await this.#machines.list();
    const alive = new Set<string>();
    for (const machine of machines) {
      if (machine.isAlive) {
        alive.add(machine.id);
        this.#forgetSettled(machine.id);
      } else if (machine.record.started) await this.#lookAt(machine);
    }
    this.#alive = alive;
    const known = new Set(machines.map(({ id }) => id));
    for (const id of this.#attempts.keys()) if (!known.has(id)) this.#attempts.delete(id);
  }

  async #lookAt({ id, status }: Machine): Promise<void> {
    if (this.#machines.isStopping(id)) return;
    // As its supervisor wrote it: one that died wrote nothing.
    const state = await readState(status.dir).catch(() => undefined);
    if (state === undefined) return;
    if (state.status === 'stopped' && this.#alive.has(id)) {
      this.#told.stopped(id);
      await this.#machines.hasStopped(id);
      return;
    }
    const died = state.status === 'running' || (state.status === 'preparing' && state.supervisor !== null);
    if (died && this.#config.enabled && this.#isDue(id)) await this.#restart(id);
  }

  /** One that has run for long begins to count again; one that was given up and does not run stays so. */
  #forgetSettled(id: string): void {
    const known = this.#attempts.get(id);
    if (known !== undefined && this.#now() - known.since >= this.#config.reset_window * 1000)
      this.#attempts.delete(id);
  }

  #isDue(id: string): boolean {
    const now = this.#now();
    const { initial_backoff, max_retries } = this.#config;
    const known = this.#attempts.get(id);
    if (known === undefined) {
      this.#attempts.set(id, { count: 0, next: now + initial_backoff * 1000, since: now });
      return false;
    }
    return known.count < max_retries && now >= known.next;
  }

  async #restart(id: string): Promise<void> {
    const now = this.#now();
    const { initial_backoff, max_backoff, max_retries } = this.#config;
    const count = (this.#attempts.get(id)?.count ?? 0) + 1;
    const pause = Math.min(initial_backoff * 2 ** count, max_backoff) * 1000;
    this.#attempts.set(id, { count, next: now + pause, since: now });
    try {
      this.#told.restarted(id, count);
      await this.#machines.restart(id);
    } catch (error) {
      // Whatever it is, a full disk say: neither the other machines nor the service may end with it.
      this.#told.failed(id, error);
    }
    if (count === max_retries) this.#told.gaveUp(id, count);
  }

  #schedule(): void {
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => {
      this.look()
        .catch((error: unknown) => this.#told.failed('', error))
        .finally(() => this.#schedule());
    }, this.#config.interval * 1000);
    this.#timer.unref();
  }
}
