import type { AuditEntry } from '@dstack-cloud/audit-log';
import { TokenBuckets } from '@dstack-cloud/prpc';

const WINDOW_MS = 60_000;
/** Kinds of refusals with a record of their own at a time; what comes beyond them is counted together. */
const MAX_KINDS = 128;
/** Bytes that the records of refusals may have in a minute, and at once; they are on disk for as long as the log is. */
export const BYTES_PER_MINUTE: number = 64 * 1024;
const BURST_BYTES = 1024 * 1024;
/** Number, time and two hashes of a record. */
const RECORD_BYTES = 256;
const MANY: AuditEntry = {
  event: 'refusals',
  decision: 'denied',
  reason: 'more refusals than are recorded one by one',
};

type Kind = { readonly entry: AuditEntry; readonly since: number; repeats: number };

/** Bounds what refusals can write. */
export type FoldedRefusals = {
  /** Returns when the entry is on disk, or when it is a repeat and counted. @throws what `append` throws */
  write(entry: AuditEntry): Promise<void>;
  /** Writes what is counted. */
  close(): Promise<void>;
};

/**
 * Records a refusal at once, and then counts the same one for a minute: the count follows in one record. Whoever is
 * refused could otherwise fill the disk, which would end all releases. A release is always a record of its own.
 * @param now monotonic milliseconds
 */
export function foldRefusals(
  append: (entry: AuditEntry) => Promise<void>,
  now: () => number = () => performance.now(),
): FoldedRefusals {
  const kinds = new Map<string, Kind>();
  const bytes = new TokenBuckets(BYTES_PER_MINUTE, BURST_BYTES, now);
  let timer: NodeJS.Timeout | undefined;

  async function flush(until: number): Promise<void> {
    for (const [name, { entry, since, repeats }] of kinds) {
      // In the order in which they began.
      if (since > until) break;
      kinds.delete(name);
      if (repeats > 0) await append({ ...entry, repeats }).catch(() => undefined);
    }
    clearTimeout(timer);
    timer = undefined;
    schedule();
  }

  function schedule(): void {
    const [oldest] = kinds.values();
    if (oldest === undefined || timer !== undefined) return;
    const wait = Math.max(0, oldest.since + WINDOW_MS - now());
    timer = setTimeout(() => void flush(now() - WINDOW_MS), wait);
    timer.unref();
  }

  async function write(entry: AuditEntry): Promise<void> {
    if (entry.decision === 'allowed') return append(entry);
    const at = now();
    const known = kinds.get(nameOf(entry));
    if (known !== undefined && at - known.since < WINDOW_MS) {
      known.repeats += 1;
      return;
    }
    if (known !== undefined) {
      await flush(at - WINDOW_MS);
      // Somebody else may have begun the next minute meanwhile.
      return write(entry);
    }
    // The record, and that of its repeats.
    const cost = 2 * (JSON.stringify(entry).length + RECORD_BYTES);
    const isMany = kinds.size >= MAX_KINDS || !bytes.take('', cost);
    const kind = isMany ? MANY : entry;
    const many = isMany ? kinds.get(nameOf(MANY)) : undefined;
    if (many !== undefined) {
      many.repeats += 1;
      return;
    }
    // Before the record is written, so that many at once are one.
    kinds.set(nameOf(kind), { entry: kind, since: at, repeats: isMany ? 1 : 0 });
    schedule();
    if (!isMany) await append(entry);
  }

  return {
    write,
    async close() {
      await flush(Number.POSITIVE_INFINITY);
      clearTimeout(timer);
    },
  };
}

/** Two refusals are the same when all but the block is; the last block would be no more telling than the first. */
function nameOf({ block_number: _block, ...entry }: AuditEntry): string {
  return JSON.stringify(entry);
}
