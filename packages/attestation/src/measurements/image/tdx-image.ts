import { toHex } from '@dstack-cloud/encoding';
import { LruCache } from '@dstack-cloud/runtime';
import type { TdxEvent } from '../../attestation.ts';
import type { CryptoBackend } from '../../crypto/backend.ts';
import { AttestationError } from '../../errors.ts';
import type { TdReport } from '../../tdx-quote/reports.ts';
import { requireMaterial } from './checksum-file.ts';
import { type ImageConfig, readMaterial } from './image-config.ts';
import { requireTdRegister } from './require-register.ts';
import { parseTdxDocument, type TdxMeasurementDocument } from './tdx-document.ts';
import {
  acpiDigests,
  memorySize,
  REGISTER_MEMBERS,
  type TdxRegisters,
  tdxLiteRegisters,
  tdxRegisters,
} from './tdx-lite.ts';

const MAX_KEPT = 256;
const registers = new LruCache<string, TdxRegisters>(MAX_KEPT);
const DOCUMENT = 'measurement.tdx.cbor';

/**
 * Whether the configuration asks for the lite check; a document alone does not select it (docs/protocol/images.md
 * section 5.1).
 */
export function isLite(config: ImageConfig): boolean {
  return config.members['tdx_attestation_variant'] === 'lite';
}

/** What the registers of an image without a measurement document depend on. */
export interface TdxRegisterRequest {
  /** 32 bytes. */
  readonly osImageHash: Uint8Array;
  /** `memory_size` of the configuration, in bytes. */
  readonly memory: number;
  /** Names exactly one outcome: the members of the configuration and the ACPI digests that the registers depend on. */
  readonly key: string;
  /** The registers, once it is known what the image measures with this much memory. */
  compute(measured: TdxMeasurementDocument): TdxRegisters;
}

/** Finds the registers of an image: in a cache, or from the image itself (`measureTdxImage`). */
export type TdxRegisterSource = (request: TdxRegisterRequest) => Promise<TdxRegisters>;

/**
 * MRTD and RTMR0 to 2 must be what the measurement document, the configuration and the ACPI events give.
 * @throws AttestationError `image` also for the legacy variant, which needs the image itself
 */
export function requireTdxImage(
  td: TdReport,
  events: readonly TdxEvent[],
  config: ImageConfig,
  crypto: Pick<CryptoBackend, 'hash'>,
): void {
  const material = readMaterial(config, 'tdx_measurement');
  if (!isLite(config) || !material) {
    throw new AttestationError(
      'image',
      isLite(config)
        ? 'vm_config says lite, but has no tdx_measurement'
        : 'Only images with a measurement document (tdx_attestation_variant lite) can be recomputed here',
      { expected: 'tdx_attestation_variant lite with tdx_measurement', found: variantText(config) },
    );
  }
  const document = requireMaterial(material, DOCUMENT, config.osImageHash, crypto);
  requireRegisters(rememberedRegisters(document, config, acpiDigests(events), crypto), td);
}

/**
 * The same for the legacy variant, with what the image itself measures in the place of a document. The ACPI tables are
 * not checked here either: their digests are those of the event log.
 * @throws AttestationError `image`, `event-log`, and what the source throws
 */
export async function requireTdxImageFrom(
  source: TdxRegisterSource,
  td: TdReport,
  events: readonly TdxEvent[],
  config: ImageConfig,
  crypto: Pick<CryptoBackend, 'hash'>,
): Promise<void> {
  requireRegisters(await source(registerRequest(config, acpiDigests(events), crypto)), td);
}

function requireRegisters(expected: TdxRegisters, td: TdReport): void {
  const [rtmr0, rtmr1, rtmr2] = td.rtmrs;
  requireTdRegister('MRTD', expected.mrtd, td.mrTd);
  requireTdRegister('RTMR0', expected.rtmr0, rtmr0);
  requireTdRegister('RTMR1', expected.rtmr1, rtmr1);
  requireTdRegister('RTMR2', expected.rtmr2, rtmr2);
}

function registerRequest(
  config: ImageConfig,
  acpi: readonly Uint8Array[],
  crypto: Pick<CryptoBackend, 'hash'>,
): TdxRegisterRequest {
  const members = REGISTER_MEMBERS.map((name) => [name, config.members[name] ?? null]);
  return {
    osImageHash: config.osImageHash,
    memory: memorySize(config),
    key: canonicalJson({
      ...Object.fromEntries(members),
      os_image_hash: toHex(config.osImageHash),
      acpi: acpi.map((digest) => toHex(digest)),
    }),
    compute: (measured) => tdxRegisters(measured, config, acpi, crypto),
  };
}

/** Members in the order of their names; the values are primitives and lists of text. */
function canonicalJson(members: Record<string, unknown>): string {
  return JSON.stringify(Object.fromEntries(Object.entries(members).sort(([a], [b]) => (a < b ? -1 : 1))));
}

/** Every boot of an image on the same machine shape has the same registers: they are computed once. */
function rememberedRegisters(
  document: Uint8Array,
  config: ImageConfig,
  acpi: readonly Uint8Array[],
  crypto: Pick<CryptoBackend, 'hash'>,
): TdxRegisters {
  const members = JSON.stringify(REGISTER_MEMBERS.map((name) => config.members[name] ?? null));
  const key = `${members}${toHex(crypto.hash('sha256', document, ...acpi))}`;
  const known = registers.get(key);
  if (known) return known;
  const made = tdxLiteRegisters(parseTdxDocument(document), config, acpi, crypto);
  registers.set(key, made);
  return made;
}

function variantText(config: ImageConfig): string {
  const variant = config.members['tdx_attestation_variant'];
  return typeof variant === 'string' ? variant.slice(0, 32) : 'legacy';
}
