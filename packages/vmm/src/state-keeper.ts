import { join } from 'node:path';
import { writeFileAtomic } from '@dstack-cloud/app';
import type { Notification } from './host-api.ts';
import { type CvmState, writeState } from './state.ts';

/** Ring buffer of guest events (chapter 50 section 7.8, `event_buffer_size`). */
const EVENT_BUFFER_SIZE = 20;

/** Holds the state of a running machine and writes it to disk, one write after the other. */
export class StateKeeper {
  readonly #dir: string;
  #state: CvmState;
  #bootError: string | null = null;
  #writing: Promise<void>;
  #dirty = false;

  constructor(dir: string, state: CvmState) {
    this.#dir = dir;
    this.#state = state;
    this.#writing = writeState(dir, state);
  }

  get state(): CvmState {
    return this.#state;
  }

  /** The last `boot.error` that the guest reported in this run. */
  get bootError(): string | null {
    return this.#bootError;
  }

  update(change: Partial<CvmState>): void {
    this.#state = { ...this.#state, ...change };
    if (this.#dirty) return;
    this.#dirty = true;
    this.#writing = this.#writing
      .then(async () => {
        this.#dirty = false;
        await writeState(this.#dir, this.#state);
      })
      .catch(() => undefined);
  }

  /** Takes in one notification of the guest (chapter 50 section 7.4). */
  notified(notification: Notification): void {
    const { event, payload } = notification;
    const entry = { event, body: payload, timestamp: Date.now() };
    const events = [...this.#state.events, entry].slice(-EVENT_BUFFER_SIZE);
    this.update({ events });
    if (event === 'boot.progress') this.update({ boot_progress: payload });
    if (event === 'boot.error') {
      this.#bootError = payload;
      this.update({ error: payload });
    }
    if (event === 'instance.info') this.#instanceInfo(payload);
  }

  /** Waits until the newest state is on disk. */
  async flush(): Promise<void> {
    while (this.#dirty) await this.#writing;
    await this.#writing;
  }

  #instanceInfo(payload: string): void {
    try {
      const info = JSON.parse(payload) as { instance_id?: unknown };
      if (typeof info.instance_id === 'string' && /^(?:[0-9a-f]{40})?$/.test(info.instance_id))
        this.update({ instance_id: info.instance_id });
      // The guest's own seed must survive its next start.
      void writeFileAtomic(join(this.#dir, 'shared/.instance_info'), payload, { mode: 0o600 }).catch(
        () => undefined,
      );
    } catch {
      // Not JSON: kept as an event, used for nothing.
    }
  }
}
