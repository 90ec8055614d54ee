import { concatBytes, utf8 } from '@dstack-cloud/encoding';
import { defaultCrypto } from '#crypto';
import type { AttestationMode } from '../attestation.ts';
import { readMrConfig } from '../codec/mr-config.ts';
import { replayRuntimeEvents } from '../events/runtime-events.ts';
import type { GcpTdxEvidence, NitroEvidence, NitroTpmEvidence, SnpEvidence } from '../platform-evidence.ts';
import type { SnpLevel } from '../tcb-policy/snp-policy.ts';
import type { TdxEvidence } from '../tdx-evidence.ts';
import type { VerifiedAttestation } from '../verify-context.ts';
import { readBootEvents, readUnmeasuredIds } from './boot-events.ts';
import { type DerivedFrom, gcpTdxValues, keyProviderHash, tdxValues } from './derived-values.ts';
import { configuredImageHash, nitroImageHash } from './image-hash.ts';
import { pcrOf } from './pcr.ts';

/** Identities and measurements derived from verified evidence (docs/protocol/verification.md section 8). */
export interface BootInfo {
  /** Kind of evidence; key services of the original do not name it when they ask a policy. */
  readonly mode?: string;
  /** 20 bytes; on Nitro it is not measured, and empty when the evidence carries none. */
  readonly appId: Uint8Array;
  /** 20 bytes or empty. */
  readonly instanceId: Uint8Array;
  /** 32 bytes. */
  readonly composeHash: Uint8Array;
  /** 32 bytes; empty when no configuration names one. Bound to the hardware by `verifyOsImage` only. */
  readonly osImageHash: Uint8Array;
  readonly keyProviderInfo: Uint8Array;
  /** 32 bytes. */
  readonly mrSystem: Uint8Array;
  readonly mrAggregated: Uint8Array;
  /** 32 bytes; on Nitro the value the original computes, SHA-256 of `i`. */
  readonly deviceId: Uint8Array;
  /** 32 bytes, Nitro only: SHA-256 of the EC2 instance id. */
  readonly hostId?: Uint8Array;
  readonly tcbStatus: string;
  readonly advisoryIds: readonly string[];
  /** SEV-SNP only. */
  readonly snp?: SnpLevel;
}

/** What follows from evidence that was verified here. */
export interface VerifiedBootInfo extends BootInfo {
  readonly mode: AttestationMode;
  readonly simulated: boolean;
}

export interface BootInfoOptions {
  /** Replay only up to `boot-mr-done`: true when a KMS signs certificates for an app. */
  readonly bootTime: boolean;
  /** Configuration that came beside the attestation; used only when the attestation carries none. */
  readonly vmConfig?: string;
}

type Derived = Pick<
  BootInfo,
  'appId' | 'instanceId' | 'composeHash' | 'osImageHash' | 'keyProviderInfo' | 'mrSystem' | 'mrAggregated'
>;

const NOTHING = new Uint8Array();

/**
 * Derives identities and measurements; everything from one source (docs/protocol/verification.md section 8.4).
 * @throws AttestationError `event-log` when a required event is missing, repeated or malformed, `malformed` for
 * a bad configuration
 */
export function bootInfo(verified: VerifiedAttestation, options: BootInfoOptions): VerifiedBootInfo {
  const { evidence } = verified;
  return {
    mode: verified.mode,
    simulated: verified.simulated,
    ...inOnePiece({
      ...derive(verified, options),
      deviceId: sha256(verified.rawDeviceId),
      ...(evidence.kind === 'nitro' ? { hostId: sha256(utf8(instanceIdOf(evidence.moduleId))) } : {}),
    }),
    tcbStatus: verified.tcbStatus,
    advisoryIds: verified.advisoryIds,
    ...(verified.snp === undefined ? {} : { snp: verified.snp }),
  };
}

/**
 * The same values in memory of their own: parts of evidence, and hashes out of Node's pool, would keep many kilobytes
 * alive for as long as an identity is known.
 */
function inOnePiece<T extends Record<string, Uint8Array>>(values: T): T {
  const all = concatBytes(...Object.values(values));
  const copies: Record<string, Uint8Array> = {};
  let offset = 0;
  for (const [name, { length }] of Object.entries(values)) {
    copies[name] = all.subarray(offset, offset + length);
    offset += length;
  }
  return copies as T;
}

function derive(verified: VerifiedAttestation, options: BootInfoOptions): Derived {
  const { evidence } = verified;
  switch (evidence.kind) {
    case 'tdx':
      return tdx(verified, evidence, options);
    case 'gcp-tdx':
      return gcpTdx(verified, evidence, options);
    case 'nitro':
      return nitro(verified, evidence);
    case 'sev-snp':
      return snp(verified, evidence, options);
    case 'nitro-tpm':
      return nitroTpm(verified, evidence, options);
  }
}

function tdx(verified: VerifiedAttestation, { td }: TdxEvidence, options: BootInfoOptions): Derived {
  const common = composable(verified, options);
  return { ...common, ...tdxValues(td, derivedFrom(verified, common, options)) };
}

function gcpTdx(verified: VerifiedAttestation, { pcrs }: GcpTdxEvidence, options: BootInfoOptions): Derived {
  const common = composable(verified, options);
  return { ...common, ...gcpTdxValues(pcrs, common.osImageHash, derivedFrom(verified, common, options)) };
}

/** Nothing but the PCRs is measured: the image is the application. */
function nitro(verified: VerifiedAttestation, { pcrs }: NitroEvidence): Derived {
  const mrSystem = sha256(pcrOf(pcrs, 0), pcrOf(pcrs, 1), pcrOf(pcrs, 2));
  const osImageHash = nitroImageHash(pcrs);
  return {
    ...readUnmeasuredIds(verified.runtimeEvents),
    composeHash: osImageHash,
    osImageHash,
    keyProviderInfo: NOTHING,
    mrSystem,
    mrAggregated: mrSystem,
  };
}

function snp(verified: VerifiedAttestation, evidence: SnpEvidence, options: BootInfoOptions): Derived {
  const document = readMrConfig(evidence.mrConfig);
  return {
    appId: document.appId,
    instanceId: document.instanceId,
    composeHash: document.composeHash,
    osImageHash: configuredImageHash(verified.config, options.vmConfig),
    keyProviderInfo: options.bootTime ? NOTHING : document.keyProviderInfo,
    mrSystem: sha256(evidence.measurement),
    mrAggregated: sha256(evidence.measurement, evidence.hostData),
  };
}

function nitroTpm(
  verified: VerifiedAttestation,
  { pcrs }: NitroTpmEvidence,
  options: BootInfoOptions,
): Derived {
  const common = composable(verified, options);
  const boot = [pcrOf(pcrs, 4), pcrOf(pcrs, 7), pcrOf(pcrs, 12)];
  const pcr14 = replayRuntimeEvents(verified.runtimeEvents, 'sha384', until(options));
  return {
    ...common,
    mrSystem: sha256(...boot, keyProviderHash(common)),
    mrAggregated: sha256(...boot, pcr14),
  };
}

/** What the modes that measure runtime events have in common. */
function composable(verified: VerifiedAttestation, options: BootInfoOptions) {
  const { appId, composeHash, instanceId, keyProvider } = readBootEvents(verified.runtimeEvents);
  return {
    appId,
    composeHash,
    instanceId,
    osImageHash: configuredImageHash(verified.config, options.vmConfig),
    keyProviderInfo: options.bootTime ? NOTHING : keyProvider,
  };
}

function until(options: BootInfoOptions): { until?: string } {
  return options.bootTime ? { until: 'boot-mr-done' } : {};
}

function derivedFrom(
  { runtimeEvents }: VerifiedAttestation,
  { keyProviderInfo }: Pick<Derived, 'keyProviderInfo'>,
  options: BootInfoOptions,
): DerivedFrom {
  return { runtimeEvents, keyProviderInfo, ...until(options) };
}

/** `i-0827e799ec9232d44-enc019b…`: the instance id ends at the last dash. */
function instanceIdOf(moduleId: string): string {
  const dash = moduleId.lastIndexOf('-');
  return dash < 0 ? moduleId : moduleId.slice(0, dash);
}

function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  return defaultCrypto.hash('sha256', concatBytes(...parts));
}
