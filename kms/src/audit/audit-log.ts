import { join } from 'node:path';
import { type AuditEntry, AuditError, AuditLog, auditKey, certifyAuditKey } from '@dstack-cloud/audit-log';
import { toHex } from '@dstack-cloud/encoding';
import { k256PublicKey } from '@dstack-cloud/keys';
import { RpcError } from '@dstack-cloud/prpc';
import { errorChain } from '@dstack-cloud/runtime';
import type { KmsConfig } from '../config/kms-config.ts';
import type { KmsKeys } from '../key-directory/kms-keys.ts';
import { lockAuditDirectory } from '../key-directory/lock.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { auditEntry, type Decided } from './audit-entry.ts';
import { foldRefusals } from './fold-refusals.ts';
import { type HandoverJson, recordHandovers } from './handovers.ts';

/** A signed head with the key that signed it and the root's word for that key; bytes in hex. */
export type CertifiedHead = ReturnType<AuditLog['head']> & {
  readonly publicKey: string;
  readonly publicKeySignature: string;
  /** How the log came from earlier roots to this one, the oldest first. */
  readonly handovers: readonly HandoverJson[];
};

/** Durable record of every decision (docs/protocol/kms.md section 9). The log has one writer; a worker asks it. */
export type Audit = {
  /** Returns when the record is on disk. @throws RpcError `UNAVAILABLE`: then nothing may be released */
  record(decided: Decided): Promise<void>;
  /** As `record`, of an entry that is made already. */
  write(entry: AuditEntry): Promise<void>;
  head(): Promise<CertifiedHead>;
  /** Hex hashes; size 0 means now. @throws RpcError `INVALID_ARGUMENT` */
  inclusionProof(seq: number, size: number): Promise<string[]>;
  consistencyProof(first: number, second: number): Promise<string[]>;
  /** At most `limit` records from number `from` on, as the canonical lines that are hashed. */
  records(from: number, limit: number): Promise<string[]>;
  close(): Promise<void>;
};

/** What a caller hears when there is no record, and therefore no release. */
export const UNRECORDED = 'The audit log cannot be written; nothing is released without a record';

type Dependencies = {
  readonly config: KmsConfig;
  readonly keys: KmsKeys;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Unix seconds. */
  readonly now: () => number;
};

/**
 * Opens the audit log of a KMS.
 * @throws AuditError when what is there does not chain; KmsError `audit-in-use` when another process writes it
 */
export async function openAudit(dependencies: Dependencies): Promise<Audit> {
  const { config, log } = dependencies;
  const { audit: settings, cert_dir: directory } = config.core;
  if (!settings.enabled) {
    log.warn('the audit log is switched off');
    return NO_AUDIT;
  }
  const folder = settings.dir ?? join(directory, 'audit');
  const lock = await lockAuditDirectory(folder);
  try {
    const audit = await openFolder(folder, dependencies);
    const close = async (): Promise<void> => {
      try {
        await audit.close();
      } finally {
        await lock.release();
      }
    };
    return { ...audit, close };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

async function openFolder(folder: string, { config, keys, metrics, log, now }: Dependencies): Promise<Audit> {
  const { audit: settings } = config.core;
  const { k256 } = keys.roots;
  const key = auditKey(k256);
  const publicKey = k256PublicKey(key);
  const certified = {
    publicKey: toHex(publicKey),
    publicKeySignature: toHex(certifyAuditKey(publicKey, k256)),
  };
  const file = await AuditLog.open({
    directory: folder,
    key,
    now: () => now() * 1000,
    segmentBytes: settings.max_segment_bytes,
    ...(settings.keep_segments === undefined ? {} : { keepSegments: settings.keep_segments }),
  });
  if (file.lost > 0) {
    // After a power failure the last ones may be those of answers that were never given.
    log.error({ records: file.lost, size: file.size }, 'audit records are gone that were there before');
  }
  const handovers = await recordHandovers(file, folder, keys).catch(async (error: unknown) => {
    await file.close();
    throw error;
  });
  const append = async (entry: AuditEntry): Promise<void> => {
    try {
      await file.append(entry);
      metrics.auditRecords.inc({ result: 'written' });
    } catch (cause) {
      metrics.auditRecords.inc({ result: 'failed' });
      log.error({ error: errorChain(cause) }, 'audit log cannot be written');
      if (!(cause instanceof AuditError)) throw cause;
      throw new RpcError(UNRECORDED, { code: 'UNAVAILABLE', cause });
    }
  };
  const refusals = foldRefusals(append);
  let latest: { readonly size: number; readonly second: number; readonly head: CertifiedHead } | undefined;
  // Anybody may ask, of any worker: one signature serves all who ask in the same second.
  const head = (): CertifiedHead => {
    const [size, second] = [file.size, Math.floor(now())];
    if (latest?.size !== size || latest.second !== second) {
      latest = { size, second, head: { ...file.head(), ...certified, handovers } };
    }
    return latest.head;
  };
  return {
    write: refusals.write,
    record: (decided) => refusals.write(auditEntry(decided)),
    head: async () => head(),
    inclusionProof: async (seq, size) => prove(() => file.inclusionProof(seq, size || file.size)),
    consistencyProof: async (first, second) => prove(() => file.consistencyProof(first, second || file.size)),
    records: (from, limit) => file.records(from, limit),
    async close() {
      try {
        await refusals.close();
      } finally {
        await file.close();
      }
    },
  };
}

/** The configuration switches the log off. */
export const NO_AUDIT: Audit = {
  write: async () => undefined,
  record: async () => undefined,
  head: missing,
  inclusionProof: missing,
  consistencyProof: missing,
  records: missing,
  close: async () => undefined,
};

function prove(make: () => string[]): string[] {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof AuditError)) throw error;
    throw new RpcError(error.message, { code: 'INVALID_ARGUMENT', cause: error });
  }
}

async function missing(): Promise<never> {
  throw new RpcError('The audit log is switched off', { code: 'UNIMPLEMENTED' });
}
