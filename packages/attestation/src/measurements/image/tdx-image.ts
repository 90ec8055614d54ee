import type { TdxEvent } from '../../attestation.ts';
import type { CryptoBackend } from '../../crypto/backend.ts';
import { AttestationError } from '../../errors.ts';
import type { TdReport } from '../../tdx/reports.ts';
import { requireMaterial } from './checksum-file.ts';
import { type ImageConfig, readMaterial } from './image-config.ts';
import { requireRegister } from './require-register.ts';
import { parseTdxDocument } from './tdx-document.ts';
import { tdxLiteRegisters } from './tdx-lite.ts';

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
  const document = parseTdxDocument(requireMaterial(material, DOCUMENT, config.osImageHash, crypto));
  const expected = tdxLiteRegisters(document, config, events, crypto);
  const [rtmr0, rtmr1, rtmr2] = td.rtmrs;
  requireRegister('MRTD', expected.mrtd, td.mrTd);
  requireRegister('RTMR0', expected.rtmr0, rtmr0);
  requireRegister('RTMR1', expected.rtmr1, rtmr1);
  requireRegister('RTMR2', expected.rtmr2, rtmr2);
}

function variantText(config: ImageConfig): string {
  const variant = config.members['tdx_attestation_variant'];
  return typeof variant === 'string' ? variant.slice(0, 32) : 'legacy';
}
