import { equalBytes, toHex, utf8Text } from '@dstack-cloud/encoding';
import type { CryptoBackend } from '../../crypto/backend.ts';
import { decoding } from '../../decoding.ts';
import { AttestationError } from '../../errors.ts';
import type { MeasurementMaterial } from './image-config.ts';

const LINE = /^([0-9a-fA-F]{64}) [ *]?(\S+)$/;

/**
 * Binds a measurement document to an image: os_image_hash must be the SHA-256 of the checksum file, one line
 * of which names the document with its SHA-256 (docs/protocol/images.md section 3.1).
 * @param name file name of the document, e.g. `measurement.tdx.cbor`
 * @returns the document's bytes
 * @throws AttestationError `image`
 */
export function requireMaterial(
  material: MeasurementMaterial,
  name: string,
  osImageHash: Uint8Array,
  crypto: Pick<CryptoBackend, 'hash'>,
): Uint8Array {
  const hash = crypto.hash('sha256', material.checksumFile);
  if (!equalBytes(hash, osImageHash)) {
    throw new AttestationError('image', 'os_image_hash mismatch: it is not the hash of the checksum file', {
      expected: toHex(osImageHash),
      found: toHex(hash),
    });
  }
  const listed = listedHash(material.checksumFile, name);
  const found = toHex(crypto.hash('sha256', material.measurement));
  if (found !== listed) {
    throw new AttestationError('image', `${name} is not the document that the checksum file lists`, {
      expected: listed,
      found,
    });
  }
  return material.measurement;
}

function listedHash(checksumFile: Uint8Array, name: string): string {
  const text = decoding('Checksum file', () => utf8Text(checksumFile));
  const hashes = text.split('\n').flatMap((line) => {
    const match = LINE.exec(line.trimEnd());
    return match && match[2] === name ? [match[1]!.toLowerCase()] : [];
  });
  if (hashes.length !== 1) {
    throw new AttestationError('image', `The checksum file must list ${name} once`, {
      expected: '1',
      found: String(hashes.length),
    });
  }
  return hashes[0]!;
}
