import { join } from 'node:path';
import type { BootInfo } from '@dstack-cloud/attestation';
import { AuditError, AuditLog, auditKey, certifyAuditKey } from '@dstack-cloud/audit-log';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { k256PublicKey, type RootKeys } from '@dstack-cloud/keys';
import { create, kms as proto, RpcError } from '@dstack-cloud/prpc';
import type { KmsConfig } from '../config/kms-config.ts';
import { errorChain } from '../errors.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';

/** A decision about verified evidence. */
export type Decided = {
  readonly event: 'app-key' | 'kms-key' | 'sign-cert' | 'get-key';
  readonly info: BootInfo;
  readonly allowed: boolean;
  readonly reason: string;
  readonly blockNumber: bigint | undefined;
  readonly keyEpoch: number;
};

/** Durable record of every decision (chapter 10 section 10.2). */
export type Audit = {
  /** Returns when the record is on disk. @throws RpcError `UNAVAILABLE`: then nothing may be released */
  record(decided: Decided): Promise<void>;
  /** The log to read and prove from; undefined when the configuration switches it off. */
  readonly log: AuditLog | undefined;
  head(): proto.AuditHead;
  close(): Promise<void>;
};

const MAX_REASON = 512;

type Dependencies = {
  readonly config: KmsConfig;
  readonly roots: RootKeys;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Unix seconds. */
  readonly now: () => number;
};

/** Opens the audit log of a KMS. @throws AuditError when what is there does not chain */
export async function openAudit({ config, roots, metrics, log, now }: Dependencies): Promise<Audit> {
  const { audit: settings, cert_dir: directory } = config.core;
  if (!settings.enabled) {
    log.warn('the audit log is switched off');
    return { record: async () => undefined, log: undefined, head: missing, close: async () => undefined };
  }
  const key = auditKey(roots.k256);
  const publicKey = k256PublicKey(key);
  const publicKeySignature = certifyAuditKey(publicKey, roots.k256);
  const file = await AuditLog.open({
    directory: settings.dir ?? join(directory, 'audit'),
    key,
    now: () => now() * 1000,
    segmentBytes: settings.max_segment_bytes,
    ...(settings.keep_segments === undefined ? {} : { keepSegments: settings.keep_segments }),
  });
  return {
    log: file,
    async record(decided) {
      try {
        await file.append(entryOf(decided));
        metrics.auditRecords.inc({ result: 'written' });
      } catch (cause) {
        metrics.auditRecords.inc({ result: 'failed' });
        log.error({ error: errorChain(cause) }, 'audit log cannot be written');
        if (!(cause instanceof AuditError)) throw cause;
        const text = 'The audit log cannot be written; nothing is released without a record';
        throw new RpcError(text, { code: 'UNAVAILABLE', cause });
      }
    },
    head() {
      const { size, root, timestamp, signature } = file.head();
      return create(proto.AuditHeadSchema, {
        treeSize: BigInt(size),
        rootHash: fromHex(root),
        timestamp: BigInt(timestamp),
        signature: fromHex(signature),
        publicKey,
        publicKeySignature,
      });
    },
    close: () => file.close(),
  };
}

function entryOf({
  event,
  info,
  allowed,
  reason,
  blockNumber,
  keyEpoch,
}: Decided): Parameters<AuditLog['append']>[0] {
  return {
    event,
    app_id: toHex(info.appId),
    instance_id: toHex(info.instanceId),
    device_id: toHex(info.deviceId),
    compose_hash: toHex(info.composeHash),
    os_image_hash: toHex(info.osImageHash),
    mr_aggregated: toHex(info.mrAggregated),
    platform: info.mode,
    simulated: info.simulated,
    decision: allowed ? 'allowed' : 'denied',
    reason: reason.slice(0, MAX_REASON),
    key_epoch: keyEpoch,
    ...(blockNumber === undefined ? {} : { block_number: Number(blockNumber) }),
  };
}

function missing(): never {
  throw new RpcError('The audit log is switched off', { code: 'UNIMPLEMENTED' });
}
