import type { Check, VerifiedAttestation } from '@dstack-cloud/attestation';
import { fromHex, toHex, utf8Text } from '@dstack-cloud/encoding';
import type { AppInfoJson } from '../report.ts';

/** Body of an answer to POST /verify: the original's members in its order, then ours. */
export interface Response {
  readonly is_valid: boolean;
  readonly details: Readonly<Record<string, unknown>>;
  readonly reason: string | null;
  /** Stable reason; null when valid. */
  readonly code: string | null;
  /** True when a root other than the vendor's vouches for the evidence. */
  readonly simulated: boolean;
  readonly checks: readonly Omit<Check, 'reference'>[];
  /** Unix seconds: a service verifies for the present, and says which time that was. */
  readonly verified_at: number;
}

export interface Refusal {
  readonly step:
    | 'Internal error'
    | 'Quote verification failed'
    | 'OS image hash verification failed'
    | 'Event log verification failed';
  readonly message: string;
  readonly code: string;
  readonly checks: readonly Check[];
  /** Unix seconds. */
  readonly now: number;
  /** Present when the quote step passed. */
  readonly verified?: VerifiedAttestation;
}

/** An answer that refuses; what was verified before is told. */
export function refusedResponse({ step, message, code, checks, now, verified }: Refusal): Response {
  return {
    is_valid: false,
    details: details({
      quote: verified !== undefined,
      image: step === 'Event log verification failed',
      events: false,
      verified,
    }),
    reason: `${step}: ${message}`,
    code,
    simulated: verified?.simulated ?? false,
    checks: checks.map(withoutReference),
    verified_at: now,
  };
}

/** An answer that accepts the evidence; TCB status and identities are for the client to appraise. */
export function validResponse(
  verified: VerifiedAttestation,
  appInfo: AppInfoJson,
  checks: readonly Check[],
  now: number,
): Response {
  return {
    is_valid: true,
    details: details({ quote: true, image: true, events: true, verified, appInfo }),
    reason: null,
    code: null,
    simulated: verified.simulated,
    checks: checks.map(withoutReference),
    verified_at: now,
  };
}

interface Progress {
  readonly quote: boolean;
  readonly image: boolean;
  readonly events: boolean;
  readonly verified?: VerifiedAttestation | undefined;
  readonly appInfo?: AppInfoJson;
}

function details({ quote, image, events, verified, appInfo }: Progress): Record<string, unknown> {
  return {
    quote_verified: quote,
    event_log_verified: events,
    os_image_hash_verified: image,
    acpi_tables_verified: false,
    os_image_is_dev: null,
    os_image_version: null,
    tee_variant: verified?.mode ?? null,
    report_data: verified ? toHex(verified.reportData) : null,
    // The empty string of a platform without status is null here, and "" in boot_info.
    tcb_status: verified?.tcbStatus || null,
    advisory_ids: verified?.advisoryIds ?? [],
    key_provider: appInfo ? keyProvider(appInfo.key_provider_info) : null,
    app_info: appInfo ?? null,
    ...(verified && appInfo ? { boot_info: bootInfoBody(verified, appInfo) } : {}),
  };
}

/** The body that a KMS sends to its policy (docs/protocol/contracts.md section 7.1), camelCase. */
function bootInfoBody(verified: VerifiedAttestation, info: AppInfoJson): Record<string, unknown> {
  return {
    teeVariant: verified.mode,
    mrAggregated: info.mr_aggregated,
    osImageHash: info.os_image_hash,
    mrSystem: info.mr_system,
    appId: info.app_id,
    composeHash: info.compose_hash,
    instanceId: info.instance_id,
    deviceId: info.device_id,
    keyProviderInfo: info.key_provider_info,
    tcbStatus: verified.tcbStatus,
    advisoryIds: verified.advisoryIds,
  };
}

/** Name and id of the key-provider event, null when there is none or it is something else. */
function keyProvider(hex: string): { name: string; id: string } | null {
  if (hex === '') return null;
  try {
    const { name, id } = JSON.parse(utf8Text(fromHex(hex))) as { name?: unknown; id?: unknown };
    return typeof name === 'string' && typeof id === 'string' ? { name, id } : null;
  } catch {
    return null;
  }
}

function withoutReference({ reference: _, ...check }: Check): Omit<Check, 'reference'> {
  return check;
}
