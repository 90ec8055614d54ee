import { encodeCbor } from '@dstack-cloud/encoding';
import { CborDocument } from '../../codec/cbor-document.ts';
import type { CryptoBackend } from '../../crypto/backend.ts';
import { requireMaterial } from './checksum-file.ts';
import { type ImageConfig, readMaterial } from './image-config.ts';
import { requireRegister } from './require-register.ts';

const DOCUMENT = 'measurement.gcp.cbor';

/** The document that names a UKI by its 32-byte Authenticode digest. */
export function encodeGcpDocument(ukiDigest: Uint8Array): Uint8Array {
  return encodeCbor({ version: 1, uki_auth: ukiDigest });
}

/**
 * The UKI in the log of PCR 2 must be the one that the configuration names: v0.6 by its digest, the newer form
 * by a checksum file (docs/protocol/images.md section 5.3).
 * @throws AttestationError `image`
 */
export function requireGcpImage(
  ukiDigest: Uint8Array,
  config: ImageConfig,
  crypto: Pick<CryptoBackend, 'hash'>,
): void {
  const material = readMaterial(config, 'gcp_measurement');
  let uki = config.osImageHash;
  if (material) {
    const document = CborDocument.parse(
      requireMaterial(material, DOCUMENT, config.osImageHash, crypto),
      DOCUMENT,
    );
    document.version(1);
    uki = document.bytes('uki_auth', 32);
    document.finish();
  }
  requireRegister('UKI hash', uki, ukiDigest);
}
