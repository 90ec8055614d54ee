/** Failures within the window after which an instance is left out for a while. */
const MAX_FAILURES = 3;
const WINDOW_MS = 10_000;
const FIRST_PAUSE_MS = 10_000;
const MAX_PAUSE_MS = 120_000;

type Record = { failures: number; since: number; until: number; pauseMs: number; open: number };

/** What connections to instances showed: how many are open, and who does not answer. */
export class InstanceHealth {
  readonly #records = new Map<string, Record>();
  readonly #now: () => number;

  /** @param now monotonic milliseconds */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Connections that are open or being made. */
  open(instanceId: string): number {
    return this.#records.get(instanceId)?.open ?? 0;
  }

  /** Whether the instance did not fail again and again of late. */
  isUp(instanceId: string): boolean {
    return this.#now() >= (this.#records.get(instanceId)?.until ?? 0);
  }

  /** Counts a connection until the returned function is called. */
  begin(instanceId: string): () => void {
    const record = this.#of(instanceId);
    record.open += 1;
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      record.open -= 1;
    };
  }

  succeeded(instanceId: string): void {
    const record = this.#records.get(instanceId);
    if (record === undefined) return;
    record.failures = 0;
    record.pauseMs = FIRST_PAUSE_MS;
    record.until = 0;
  }

  failed(instanceId: string): void {
    const record = this.#of(instanceId);
    const now = this.#now();
    if (now - record.since > WINDOW_MS) {
      record.failures = 0;
      record.since = now;
    }
    record.failures += 1;
    if (record.failures < MAX_FAILURES) return;
    record.until = now + record.pauseMs;
    record.pauseMs = Math.min(2 * record.pauseMs, MAX_PAUSE_MS);
    record.failures = 0;
  }

  /** The instance is gone. Connections that are open still count down on their own record. */
  forget(instanceId: string): void {
    this.#records.delete(instanceId);
  }

  #of(instanceId: string): Record {
    const known = this.#records.get(instanceId);
    if (known !== undefined) return known;
    const record = { failures: 0, since: this.#now(), until: 0, pauseMs: FIRST_PAUSE_MS, open: 0 };
    this.#records.set(instanceId, record);
    return record;
  }
}
