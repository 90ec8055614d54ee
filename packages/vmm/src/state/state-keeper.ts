import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseInstanceInfo, writeFileAtomic } from '@dstack-cloud/app';
import { toHex } from '@dstack-cloud/encoding';
import type { Notification } from '../host-api/host-api.ts';
import { type CvmState, writeState } from './state.ts';

/** Ring buffer of guest events. */
const EVENT_BUFFER_SIZE = 20;
/** However often the guest says something, the disk is written no more often than this. */
const MIN_PAUSE_MS = 20;
/** A full disk may have room again. */
const RETRY_MS = 1_000;

/** Holds the state of a running machine and writes it to disk, one write after the other. */
export class StateKeeper {
  readonly #dir: string;
  readonly #closing = new AbortController();
  #state: CvmState;
  #bootError: string | null = null;
  #writing: Promise<void> | undefined;
  #isDirty = false;
  #lastError: unknown;
  /** What the guest wants to find at its next start. */
  #instanceInfo: string | undefined;

  constructor(dir: string, state: CvmState) {
    this.#dir = dir;
    this.#state = state;
    this.update({});
  }

  get state(): CvmState {
    return this.#state;
  }

  /** A boot begins: what the guest said in an earlier one is over. */
  bootBegins(): void {
    this.#bootError = null;
    this.update({ status: 'preparing', boot_progress: 'booting', error: null });
  }

  /** The last `boot.error` that the guest reported in this boot. */
  get bootError(): string | null {
    return this.#bootError;
  }

  update(change: Partial<CvmState>): void {
    this.#state = { ...this.#state, ...change };
    this.#isDirty = true;
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
  }

  /** Adds a notification of the guest to the newest events. */
  notified({ event, payload }: Notification): void {
    const entry = { event, body: payload, timestamp: Date.now() };
    this.update({ events: [...this.#state.events, entry].slice(-EVENT_BUFFER_SIZE) });
  }

  /** Takes in what a notification says about the boot. */
  progressed({ event, payload }: Notification): void {
    if (event === 'boot.progress') this.update({ boot_progress: payload });
    if (event === 'boot.error') {
      this.#bootError = payload;
      this.update({ error: payload });
    }
    if (event === 'instance.info') this.#takeInstanceInfo(payload);
  }

  /** Waits until the newest state is on disk. @throws what the last attempt to write it threw */
  async flush(): Promise<void> {
    await this.#writing;
    if (this.#isDirty) throw this.#lastError;
  }

  /** Writes the last state, or gives up at once when it cannot be written. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#writing;
    if (this.#isDirty) await writeState(this.#dir, this.#state).catch(() => undefined);
  }

  async #writeAll(): Promise<void> {
    while (this.#isDirty) {
      this.#isDirty = false;
      try {
        await this.#writeInstanceInfo();
        await writeState(this.#dir, this.#state);
        await this.#pause(MIN_PAUSE_MS);
      } catch (error) {
        this.#isDirty = true;
        this.#lastError = error;
        setTimeout(() => this.update({}), RETRY_MS).unref();
        return;
      }
    }
  }

  async #pause(ms: number): Promise<void> {
    if (this.#isDirty) await sleep(ms, undefined, { signal: this.#closing.signal }).catch(() => undefined);
  }

  #takeInstanceInfo(payload: string): void {
    try {
      const { instanceId } = parseInstanceInfo(payload);
      this.#instanceInfo = payload;
      this.update({ instance_id: instanceId === undefined ? '' : toHex(instanceId) });
    } catch {
      // No instance info: kept as an event, used for nothing.
    }
  }

  /** The guest's own seed must survive its next start. */
  async #writeInstanceInfo(): Promise<void> {
    const info = this.#instanceInfo;
    if (info === undefined) return;
    await writeFileAtomic(join(this.#dir, 'shared/.instance_info'), info, { mode: 0o600 });
    if (this.#instanceInfo === info) this.#instanceInfo = undefined;
  }
}
