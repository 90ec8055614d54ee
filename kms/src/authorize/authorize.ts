import {
  appraiseTcb,
  snpPolicyFromConfig,
  TCB_STATUSES,
  type VerifiedBootInfo,
} from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import type { Decision } from '@dstack-cloud/policy';
import { RpcError } from '@dstack-cloud/prpc';
import type { Decided, Released } from '../audit/audit-entry.ts';
import { assertReleaseAllowed } from '../evidence/release-gate.ts';
import { assertConfigSize, type VerifiedEvidence } from '../evidence/verified-evidence.ts';
import type { Kms } from '../kms.ts';
import { askPolicy, denial } from '../policy/ask-policy.ts';
import { checkImage, needsImageDownload } from './check-image.ts';
import { activeAssignment, type KeyAssignment, keyAssignment } from './key-assignment.ts';
import { keyEpochs } from './key-epochs.ts';

export type AuthorizeInput = {
  /** What is asked for, for the audit log. */
  readonly event: Decided['event'];
  readonly kind: 'app' | 'kms';
  /** Stands before the text of every refusal of the workload. */
  readonly context?: string;
  /** Of the caller. */
  readonly address: string;
  /** Measurements as of boot; true only for SignCert. */
  readonly bootTime: boolean;
  /** Of the request; empty means the attested one. */
  readonly vmConfig: string;
  /**
   * Last rules of the method itself, before the release is recorded; refuses by throwing.
   * @returns what is released besides the current keys, for the record
   */
  readonly accept?: (info: VerifiedBootInfo, assignment: KeyAssignment) => Released;
};

/** What an allowed workload is, and what the decision said besides. */
export type Authorized = {
  readonly info: VerifiedBootInfo;
  readonly gatewayAppId: string;
  readonly blockNumber: bigint | undefined;
  readonly assignment: KeyAssignment;
};

type Authorizing = Pick<
  Kms,
  | 'config'
  | 'keys'
  | 'currentKeys'
  | 'policy'
  | 'self'
  | 'metrics'
  | 'log'
  | 'now'
  | 'audit'
  | 'limits'
  | 'images'
>;

/** The KMS itself is not allowed: nothing is said about the workload. */
class SelfRefusal extends Error {}

/**
 * Whether a workload may have what it asks for, and whether this KMS may give it (docs/protocol/kms.md section 5.1).
 * What needs no network is checked first, then both are asked at the same time; every decision is recorded before
 * anything is released.
 * @throws RpcError; with `context` before its text, unless it is the KMS that is refused
 */
export async function authorize(
  kms: Authorizing,
  evidence: VerifiedEvidence,
  input: AuthorizeInput,
): Promise<Authorized> {
  try {
    assertConfigSize(input.vmConfig);
    kms.limits.workload(evidence.workload);
    return await kms.limits.shown(input.address, () => decide(kms, evidence, input), isExcused);
  } catch (error) {
    if (error instanceof SelfRefusal) throw error.cause;
    const { context } = input;
    throw context !== undefined && error instanceof RpcError ? error.within(context) : error;
  }
}

/** Failures that are not the caller's fault (the KMS is unavailable), or only an excess of allowed requests. */
function isExcused(error: unknown): boolean {
  if (error instanceof SelfRefusal) return true;
  return error instanceof RpcError && (error.code === 'UNAVAILABLE' || error.code === 'RATE_LIMITED');
}

async function decide(
  kms: Authorizing,
  evidence: VerifiedEvidence,
  input: AuthorizeInput,
): Promise<Authorized> {
  const configured = evidence.withConfig(input.vmConfig);
  const info = configured.bootInfo(input.bootTime);
  let blockNumber: bigint | undefined;
  let keyEpoch = 0;
  let keyRoot: string | undefined;
  let released: Released | undefined;
  const record = (allowed: boolean, reason: string): Promise<void> =>
    kms.audit.record({ event: input.event, info, allowed, reason, blockNumber, keyEpoch, keyRoot, released });
  try {
    assertReleaseAllowed(info.mode, kms.config);
    const needsDownload = needsImageDownload(configured, kms);
    if (!needsDownload) await checkImage(configured, kms);
    assertTcb(info, kms);
    let decision = await askBoth(kms, input, info);
    if (needsDownload && decision.allowed) {
      blockNumber = decision.blockNumber;
      await checkImage(configured, kms);
      // A download may have taken its time: what counts is what the policy says now.
      decision = await askBoth(kms, input, info);
    }
    blockNumber = decision.blockNumber;
    keyEpoch = keyEpochs(kms.config, info.appId, decision).current;
    if (!decision.allowed) throw denial('Boot denied: ', decision);
    // Where an application is held says nothing of what another KMS gets.
    const assignment =
      input.kind === 'app' ? keyAssignment(kms, info.appId, decision) : activeAssignment(kms.keys);
    // While there is but one root, records stay as they were.
    if (kms.keys.history.length > 0) keyRoot = assignment.root.id;
    if (input.kind === 'app') kms.currentKeys.note(info.appId, decision);
    const { gatewayAppId } = decision;
    released = input.accept?.(info, assignment);
    kms.limits.release(input.kind === 'app' ? toHex(info.appId) : 'kms');
    await record(true, '');
    evidence.keepConfig(configured);
    return { info, gatewayAppId, blockNumber, assignment };
  } catch (error) {
    const refusal = error instanceof SelfRefusal ? error.cause : error;
    const reason = refusal instanceof RpcError ? refusal.message : 'internal error';
    logDenial(kms, info, input.event, reason);
    // That a refusal could not be recorded changes nothing: it stays a refusal, and the log says so.
    await record(false, reason).catch(() => undefined);
    throw error;
  }
}

/** The policy's decision on the workload, once it allows this KMS too. @throws SelfRefusal, RpcError */
async function askBoth(
  kms: Authorizing,
  { kind }: AuthorizeInput,
  info: VerifiedBootInfo,
): Promise<Decision> {
  const [own, asked] = await Promise.allSettled([kms.self.assertAllowed(), askPolicy(kms, kind, info)]);
  if (own.status === 'rejected') throw new SelfRefusal('', { cause: own.reason });
  if (asked.status === 'rejected') throw asked.reason;
  return asked.value;
}

/** Local patch level policy for this kind of evidence, beside what the policy source decides. */
function assertTcb(info: VerifiedBootInfo, { config, now }: Authorizing): void {
  const { tcb, accepted_tcb_statuses: all, snp } = config.core.attestation;
  const rule = tcb[info.mode] ?? (all && { accepted_statuses: all });
  // What the status does not say about an AMD platform is appraised in any case.
  if (rule === undefined && info.mode !== 'dstack-amd-sev-snp') return;
  const { accepted_statuses: acceptedStatuses = TCB_STATUSES, accepted_advisories: acceptedAdvisories } =
    rule ?? {};
  const policy = {
    acceptedStatuses,
    ...(acceptedAdvisories && { acceptedAdvisories }),
    snp: snpPolicyFromConfig(snp),
  };
  const appraisal = appraiseTcb(info, policy, now());
  if (!appraisal.ok) {
    throw new RpcError(`TCB status is not allowed: ${appraisal.reasons.join('; ')}`, {
      code: 'MEASUREMENT_NOT_FOUND',
    });
  }
}

function logDenial(
  { log, metrics }: Authorizing,
  info: VerifiedBootInfo,
  event: string,
  reason: string,
): void {
  metrics.keyDispatch.inc({ result: 'denied' });
  const fields = { event, reason, ...publicFields(info) };
  // Both texts of docs/kms.md: operators search for either.
  log.warn(fields, 'measurement not authorized');
  log.warn(fields, 'workload not authorized');
}

/** Identities for logs, in hex. */
export function publicFields(info: VerifiedBootInfo): Record<string, string> {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
  return {
    app_id: hex(info.appId),
    instance_id: hex(info.instanceId),
    compose_hash: hex(info.composeHash),
    os_image_hash: hex(info.osImageHash),
    mr_aggregated: hex(info.mrAggregated),
    device_id: hex(info.deviceId),
    platform: info.mode,
  };
}
