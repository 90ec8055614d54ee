import type { VerifiedBootInfo } from '@dstack-cloud/attestation';
import type { AuditEntry } from '@dstack-cloud/audit-log';
import { toHex } from '@dstack-cloud/encoding';

/** A decision about verified evidence. */
export type Decided = {
  readonly event: 'app-key' | 'kms-key' | 'sign-cert' | 'get-key' | 'temp-ca' | 'env-pubkey';
  /** Of the workload; of this KMS where none asks, and none when it does not know itself. */
  readonly info: VerifiedBootInfo | undefined;
  readonly allowed: boolean;
  readonly reason: string;
  readonly blockNumber: bigint | undefined;
  readonly keyEpoch: number;
  /** Id of the root that the keys come from; none while there has been but one. */
  readonly keyRoot?: string | undefined;
  /** What else leaves with the answer, or what it is called. */
  readonly released?: Released | undefined;
};

/** What a release consists of, besides the keys of one epoch and root. */
export type Released = Pick<
  AuditEntry,
  'previous_keys' | 'root_keys' | 'key_name' | 'certificate_key' | 'certificate_names'
>;

const MAX_REASON = 512;

/** Who the decision is about. */
function identities(info: VerifiedBootInfo): Partial<AuditEntry> {
  return {
    app_id: toHex(info.appId),
    instance_id: toHex(info.instanceId),
    device_id: toHex(info.deviceId),
    compose_hash: toHex(info.composeHash),
    os_image_hash: toHex(info.osImageHash),
    mr_aggregated: toHex(info.mrAggregated),
    platform: info.mode,
    simulated: info.simulated,
  };
}

/** The public facts of a decision: plain JSON, which also goes from a worker to the process that writes. */
export function auditEntry(decided: Decided): AuditEntry {
  const { event, info, allowed, reason, blockNumber, keyEpoch, keyRoot, released } = decided;
  return {
    event,
    ...(info === undefined ? {} : identities(info)),
    decision: allowed ? 'allowed' : 'denied',
    reason: reason.slice(0, MAX_REASON),
    key_epoch: keyEpoch,
    ...(keyRoot === undefined ? {} : { key_root: keyRoot }),
    // A refusal names nothing that the caller chose: the same one again must look the same.
    ...(allowed ? released : {}),
    ...(blockNumber === undefined ? {} : { block_number: Number(blockNumber) }),
  };
}
