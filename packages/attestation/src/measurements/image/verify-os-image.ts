import { defaultCrypto } from '#crypto';
import type { TdxEvent } from '../../attestation.ts';
import { type Check, CheckRecorder } from '../../check-recorder.ts';
import { CborDocument } from '../../codec/cbor-document.ts';
import type { CryptoBackend } from '../../crypto/backend.ts';
import { AttestationError } from '../../errors.ts';
import type { NitroEvidence, NitroTpmEvidence } from '../../platform-evidence.ts';
import type { TdReport } from '../../tdx-quote/reports.ts';
import type { VerifiedAttestation } from '../../verify-context.ts';
import { nitroImageHash } from '../image-hash.ts';
import { pcrOf } from '../pcr.ts';
import { requireMaterial } from './checksum-file.ts';
import { requireGcpImage } from './gcp-image.ts';
import { type ImageConfig, readImageConfig, readMaterial } from './image-config.ts';
import { requireRegister } from './require-register.ts';
import { requireSnpImage } from './snp-image.ts';
import { isLite, requireTdxImage, requireTdxImageFrom, type TdxRegisterSource } from './tdx-image.ts';

type Hasher = Pick<CryptoBackend, 'hash'>;

export interface OsImageOptions {
  /** Configuration that came beside the attestation; used only when the attestation carries none. */
  readonly vmConfig?: string;
  readonly crypto?: Hasher;
  /** For TDs on bare metal whose configuration has no measurement document; without it such evidence is refused. */
  readonly tdxRegisters?: TdxRegisterSource;
}

export interface VerifiedOsImage {
  /** 32 bytes; what was measured is this image. */
  readonly osImageHash: Uint8Array;
  readonly checks: readonly Check[];
  /** `as-logged`: the ACPI tables were not checked, their digests are those of the event log (bare TDX). */
  readonly acpiTables?: 'as-logged';
}

/** Result of `inspectOsImage`. */
export type ImageInspection =
  | ({ readonly ok: true } & VerifiedOsImage)
  | { readonly ok: false; readonly error: AttestationError; readonly checks: readonly Check[] };

/**
 * Whether verified evidence is of the OS image that its configuration names: everything is recomputed from
 * registers that the hardware signed, no value of the configuration is believed (docs/protocol/images.md section 5).
 * @throws AttestationError `image` and others
 */
export async function verifyOsImage(
  verified: VerifiedAttestation,
  options: OsImageOptions = {},
): Promise<VerifiedOsImage> {
  const inspection = await inspectOsImage(verified, options);
  if (!inspection.ok) throw inspection.error;
  return inspection;
}

/** As `verifyOsImage`, but a refusal is a value with its check. */
export async function inspectOsImage(
  verified: VerifiedAttestation,
  options: OsImageOptions = {},
): Promise<ImageInspection> {
  const checks = new CheckRecorder();
  try {
    const osImageHash = await checks.step(
      `image.${verified.evidence.kind}`,
      SECTIONS[verified.evidence.kind],
      () => verifyImage(verified, options),
    );
    const acpi = verified.evidence.kind === 'tdx' ? ({ acpiTables: 'as-logged' } as const) : {};
    return { ok: true, osImageHash, checks: checks.checks, ...acpi };
  } catch (error) {
    if (!(error instanceof AttestationError)) throw error;
    return { ok: false, error, checks: checks.checks };
  }
}

const SECTIONS = {
  tdx: 'docs/protocol/images.md section 5',
  'gcp-tdx': 'docs/protocol/images.md section 5.3',
  nitro: 'docs/protocol/images.md section 5.3',
  'nitro-tpm': 'docs/protocol/images.md section 5.3',
  'sev-snp': 'docs/protocol/images.md section 5.4',
} as const;

/**
 * Whether the evidence can be verified only with the image itself: bare TDX whose configuration does not say lite
 * (docs/protocol/images.md section 4).
 * @throws AttestationError `image`, `malformed` for a configuration that names no image
 */
export function needsOsImage(verified: VerifiedAttestation, vmConfig?: string): boolean {
  return verified.evidence.kind === 'tdx' && !isLite(readImageConfig(verified.config, vmConfig));
}

async function verifyImage(verified: VerifiedAttestation, options: OsImageOptions): Promise<Uint8Array> {
  const crypto = options.crypto ?? defaultCrypto;
  const config = readImageConfig(verified.config, options.vmConfig);
  const { evidence } = verified;
  switch (evidence.kind) {
    case 'tdx':
      await verifyTdxImage(evidence.td, tdxEvents(verified), config, crypto, options.tdxRegisters);
      break;
    case 'gcp-tdx':
      requireGcpImage(evidence.ukiDigest, config, crypto);
      break;
    case 'nitro':
      requireNitroImage(evidence, config);
      break;
    case 'nitro-tpm':
      requireNitroTpmImage(evidence, config, crypto);
      break;
    case 'sev-snp':
      await requireSnpImage(evidence, config, crypto);
      break;
  }
  return config.osImageHash;
}

async function verifyTdxImage(
  td: TdReport,
  events: readonly TdxEvent[],
  config: ImageConfig,
  crypto: Hasher,
  source: TdxRegisterSource | undefined,
): Promise<void> {
  if (source === undefined || isLite(config)) requireTdxImage(td, events, config, crypto);
  else await requireTdxImageFrom(source, td, events, config, crypto);
}

function requireNitroImage(evidence: NitroEvidence, config: ImageConfig): void {
  requireRegister('os_image_hash', config.osImageHash, nitroImageHash(evidence.pcrs));
}

function requireNitroTpmImage(evidence: NitroTpmEvidence, config: ImageConfig, crypto: Hasher): void {
  const material = readMaterial(config, 'aws_measurement');
  if (!material) throw new AttestationError('image', 'vm_config.aws_measurement is missing');
  const bytes = requireMaterial(material, 'measurement.aws.cbor', config.osImageHash, crypto);
  const document = CborDocument.parse(bytes, 'measurement.aws.cbor');
  // Newer releases say which version it is; the first ones did not.
  document.optionalVersion(1);
  const expected = document.bytes('boot_pcr_digest', 32);
  document.finish();
  const pcrs = [4, 7, 12].map((index) => pcrOf(evidence.pcrs, index));
  requireRegister('Boot PCR digest', expected, crypto.hash('sha256', ...pcrs));
}

function tdxEvents({ attestation: { quote } }: VerifiedAttestation): readonly TdxEvent[] {
  return 'eventLog' in quote ? quote.eventLog : [];
}
