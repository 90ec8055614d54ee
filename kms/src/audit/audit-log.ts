import { RpcError } from '@dstack-cloud/prpc';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { type AuditEntry, chainRecord } from './audit-record.ts';
import type { AuditStore } from './audit-store.ts';

/** Durable record of every decision. */
export type AuditLog = {
  /** Returns when the record is on disk. @throws RpcError `UNAVAILABLE`: then nothing may be released */
  record(entry: AuditEntry): Promise<void>;
  /** Records a refusal; that it could not be written is logged, since nothing is released anyway. */
  denied(entry: AuditEntry): Promise<void>;
  /** Records from one on, at most `limit`, for the admin listener. */
  page(fromSeq: number, limit: number): Promise<{ records: string[] }>;
  close(): Promise<void>;
};

/** Most records in one answer. */
const MAX_PAGE = 1000;

type Waiting = { entry: AuditEntry; resolve: () => void; reject: (error: RpcError) => void };

/** An audit log that keeps nothing, when the configuration switches it off. */
export function noAuditLog(): AuditLog {
  return {
    record: async () => undefined,
    denied: async () => undefined,
    page: async () => ({ records: [] }),
    close: async () => undefined,
  };
}

/**
 * Appends decisions to a store. Records that arrive while the disk is busy are written together, with one flush
 * for all of them, so that the log does not bound the rate of releases.
 */
export function auditLog(
  store: AuditStore,
  { metrics, log, now }: { metrics: Metrics; log: Log; now: () => number },
): AuditLog {
  let waiting: Waiting[] = [];
  let flushing: Promise<void> | undefined;

  async function flush(): Promise<void> {
    while (waiting.length > 0) {
      const batch = waiting;
      waiting = [];
      try {
        await store.append(
          batch.map(
            ({ entry }) =>
              (position) =>
                chainRecord(entry, position),
          ),
          now(),
        );
        metrics.auditRecords.inc({ result: 'written' }, batch.length);
        for (const { resolve } of batch) resolve();
      } catch (cause) {
        metrics.auditRecords.inc({ result: 'failed' }, batch.length);
        log.error(
          { reason: cause instanceof Error ? cause.message : String(cause) },
          'audit log cannot be written',
        );
        const error = new RpcError('The audit log cannot be written; nothing is released without a record', {
          code: 'UNAVAILABLE',
          cause,
        });
        for (const { reject } of batch) reject(error);
      }
    }
    flushing = undefined;
  }

  const record = (entry: AuditEntry): Promise<void> =>
    new Promise((resolve, reject) => {
      waiting.push({ entry, resolve, reject });
      flushing ??= flush();
    });

  return {
    record,
    denied: (entry) => record(entry).catch(() => undefined),
    page: async (fromSeq, limit) => ({
      records: await store.read(fromSeq, Math.min(limit || 100, MAX_PAGE)),
    }),
    async close() {
      await flushing;
      await store.close();
    },
  };
}
