import type { AuditEntry } from '@dstack-cloud/audit-log';
import { RpcError } from '@dstack-cloud/prpc';
import { errorChain } from '@dstack-cloud/runtime';
import { auditEntry } from '../audit/audit-entry.ts';
import { type Audit, NO_AUDIT, UNRECORDED } from '../audit/audit-log.ts';
import type { KmsConfig } from '../config/kms-config.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Link } from './link.ts';
import type { PrimaryMethods } from './protocol.ts';

/** Longest wait for a record, or for what is asked of the log. A disk that is so slow is as good as none. */
const RECORD_TIMEOUT_MS = 10_000;
const MAX_BATCH = 256;
/** Records that wait for their answer; more are refused. */
const MAX_WAITING = 4096;

type Waiting = { readonly entry: AuditEntry; resolve(): void; reject(error: Error): void };

type Dependencies = {
  readonly config: KmsConfig;
  readonly link: Link<PrimaryMethods>;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly timeoutMs?: number;
};

/**
 * The audit log as a worker has it: the primary writes. A record counts when the primary has said that it is on disk;
 * whatever else happens, a closed channel, no answer, a full queue, is a refusal, and nothing is released. A record
 * whose answer was lost may be in the log all the same: then it stands for a release that never happened.
 */
export function remoteAudit(dependencies: Dependencies): Audit {
  const { config, link, metrics, log, timeoutMs = RECORD_TIMEOUT_MS } = dependencies;
  if (!config.core.audit.enabled) return NO_AUDIT;
  let queue: Waiting[] = [];
  let waiting = 0;
  let isScheduled = false;

  const refuse = (cause: unknown): RpcError => {
    metrics.auditRecords.inc({ result: 'failed' });
    log.error({ error: errorChain(cause) }, 'audit record was not confirmed');
    return new RpcError(UNRECORDED, { code: 'UNAVAILABLE', cause });
  };

  async function send(batch: readonly Waiting[]): Promise<void> {
    try {
      const entries = batch.map(({ entry }) => entry);
      const results = await link.call('record', entries, timeoutMs);
      for (const [index, { resolve, reject }] of batch.entries()) {
        // An answer that says nothing about a record is no confirmation. Who writes has counted and logged failures.
        if (results[index] === null) resolve();
        else reject(new RpcError(results[index]?.message ?? UNRECORDED, { code: 'UNAVAILABLE' }));
      }
    } catch (error) {
      const refusal = refuse(error);
      for (const { reject } of batch) reject(refusal);
    } finally {
      waiting -= batch.length;
    }
  }

  function flush(): void {
    isScheduled = false;
    const entries = queue;
    queue = [];
    for (let at = 0; at < entries.length; at += MAX_BATCH) void send(entries.slice(at, at + MAX_BATCH));
  }

  const write = (entry: AuditEntry): Promise<void> => {
    if (waiting >= MAX_WAITING) return Promise.reject(refuse(new Error('Too many records wait')));
    waiting += 1;
    return new Promise((resolve, reject) => {
      queue.push({ entry, resolve, reject });
      if (isScheduled) return;
      isScheduled = true;
      // What the same turn of the event loop decides goes in one message.
      setImmediate(flush);
    });
  };

  return {
    write,
    record: (decided) => write(auditEntry(decided)),
    head: () => answered(link.call('head', null, timeoutMs)),
    inclusionProof: (seq, size) => answered(link.call('inclusionProof', [seq, size], timeoutMs)),
    consistencyProof: (first, second) => answered(link.call('consistencyProof', [first, second], timeoutMs)),
    records: (from, limit) => answered(link.call('records', [from, limit], timeoutMs)),
    close: async () => undefined,
  };
}

/** Whoever asks may ask again; it is not their fault. */
async function answered<T>(asked: Promise<T>): Promise<T> {
  try {
    return await asked;
  } catch (cause) {
    if (cause instanceof RpcError) throw cause;
    throw new RpcError('The audit log cannot be asked now', { code: 'UNAVAILABLE', cause });
  }
}
