import { verify } from 'node:crypto';
import { EncodingError, ecdsaDerToRaw, encodePem, toHex, utf8 } from '@dstack-cloud/encoding';
import { EifError } from '../errors.ts';
import {
  type Curve,
  encodeSignatureSection,
  parseSignatureSection,
  readCertificate,
  type Signatory,
  unsignedParts,
} from '../format/signature.ts';
import { requireValidAt } from '../verify.ts';
import type { EifSigner } from './signer.ts';

/**
 * The signature section over PCR 0. What the signer gives is checked here, so that no image gets a signature that a verifier
 * would refuse.
 *
 * @param now the certificate must be valid then
 * @throws EifError `certificate-invalid`, `signer-failed`
 */
export async function makeSignature(signer: EifSigner, pcr0: Uint8Array, now: Date): Promise<Uint8Array> {
  const { certificate, curve, publicKey } = requireSigner(signer, now);
  const parts = unsignedParts(curve, pcr0);
  const signature = rawSignature(await signer.sign(parts.signedBytes, curve), curve);
  const holds = verify(
    curve.hash,
    parts.signedBytes,
    { key: publicKey, dsaEncoding: 'ieee-p1363' },
    signature,
  );
  if (!holds)
    throw new EifError('signer-failed', 'The signer gave a signature that its certificate does not fit', {
      expected: `ECDSA ${curve.name} with ${curve.hash.toUpperCase()} over the message, by the key of the certificate`,
      found: toHex(signature),
    });
  const section = encodeSignatureSection(utf8(encodePem('CERTIFICATE', certificate.der)), parts, signature);
  parseSignatureSection(section);
  return section;
}

/** What can be known of a signer before an image is built. @throws EifError */
export function requireSigner(signer: EifSigner, now: Date): Signatory {
  const read = readCertificate(signer.certificate);
  requireValidAt(read.certificate, now);
  return read;
}

function rawSignature(given: Uint8Array, curve: Curve): Uint8Array {
  if (given.length === curve.signatureBytes) return given;
  try {
    return ecdsaDerToRaw(given, curve.signatureBytes / 2);
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw new EifError('signer-failed', 'The signer gave something that is no ECDSA signature', {
      expected: `${curve.signatureBytes} bytes r‖s, or DER`,
      found: `${given.length} bytes`,
    });
  }
}
