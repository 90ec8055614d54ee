import { toHex } from '@dstack-cloud/encoding';
import type { TdxEvent } from '../../attestation.ts';
import type { CryptoBackend } from '../../crypto/backend.ts';
import { LruCache } from '../../crypto/lru-cache.ts';
import { AttestationError } from '../../errors.ts';
import type { TdReport } from '../../tdx/reports.ts';
import { requireMaterial } from './checksum-file.ts';
import { type ImageConfig, readMaterial } from './image-config.ts';
import { requireRegister } from './require-register.ts';
import { parseTdxDocument } from './tdx-document.ts';
import { acpiDigests, REGISTER_MEMBERS, type TdxRegisters, tdxLiteRegisters } from './tdx-lite.ts';

const MAX_KEPT = 256;
const registers = new LruCache<TdxRegisters>(MAX_KEPT);
const DOCUMENT = 'measurement.tdx.cbor';

/** Whether the configuration asks for the lite check; a document alone does not select it (chapter 20 section 7.3). */
export function isLite(config: ImageConfig): boolean {
  return config.members['tdx_attestation_variant'] === 'lite';
}

/**
 * MRTD and RTMR0 to 2 must be what image, configuration and ACPI events give.
 * @throws AttestationError `image` also for the legacy variant, which needs the image itself and a QEMU run
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
        : 'Only images with a measurement document (tdx_attestation_variant lite) can be recomputed',
      { expected: 'tdx_attestation_variant lite with tdx_measurement', found: variantText(config) },
    );
  }
  const document = requireMaterial(material, DOCUMENT, config.osImageHash, crypto);
  const expected = rememberedRegisters(document, config, acpiDigests(events), crypto);
  const [rtmr0, rtmr1, rtmr2] = td.rtmrs;
  requireRegister('MRTD', expected.mrtd, td.mrTd);
  requireRegister('RTMR0', expected.rtmr0, rtmr0);
  requireRegister('RTMR1', expected.rtmr1, rtmr1);
  requireRegister('RTMR2', expected.rtmr2, rtmr2);
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
