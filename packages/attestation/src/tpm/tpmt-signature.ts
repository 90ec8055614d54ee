import { ByteReader, ecdsaDerToRaw } from '@dstack-cloud/encoding';
import type { SignatureScheme } from '../crypto/backend.ts';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';
import { TPM_ALGORITHM } from './tpms-attest.ts';

const TPM_ALG_RSASSA = 0x0014;
const TPM_ALG_ECDSA = 0x0018;
/** P-256: the only curve of the attestation keys of docs/protocol/evidence.md section 12.4. */
const COORDINATE_BYTES = 32;
/** RSA of up to 4096 bits. */
const MAX_RSA_BYTES = 512;
const MAX_SIGNATURE_BYTES = 4096;

/** A TPM's signature in the form that `CryptoBackend.verify` takes. */
export interface TpmSignature {
  readonly scheme: SignatureScheme;
  /** r‖s, or the RSA signature. */
  readonly bytes: Uint8Array;
}

/**
 * Reads a TPMT_SIGNATURE (docs/protocol/evidence.md section 9). Bytes after it are ignored: the original's guest stores
 * the session area of the response with it. Short r and s are padded on the left, as TPMs drop leading zeros.
 * @throws AttestationError `malformed`, `unsupported`
 */
export function parseTpmtSignature(bytes: Uint8Array): TpmSignature {
  if (bytes.length > MAX_SIGNATURE_BYTES) {
    throw new AttestationError('too-large', `TPMT_SIGNATURE of ${bytes.length} bytes`);
  }
  return decoding('TPMT_SIGNATURE', () => {
    const reader = new ByteReader(bytes);
    const algorithm = reader.u16be();
    const hash = reader.u16be();
    if (hash !== TPM_ALGORITHM.sha256) {
      throw new AttestationError('unsupported', 'TPM signature does not use SHA-256', {
        expected: '000b',
        found: hash.toString(16).padStart(4, '0'),
      });
    }
    if (algorithm === TPM_ALG_ECDSA) return readEcdsa(reader);
    if (algorithm === TPM_ALG_RSASSA) return readRsassa(reader);
    throw new AttestationError('unsupported', 'TPM signature is neither ECDSA nor RSASSA', {
      expected: '0018 or 0014',
      found: algorithm.toString(16).padStart(4, '0'),
    });
  });
}

/** The same from a DER ECDSA-Sig-Value, as some tools store it. */
export function tpmSignatureFromDer(bytes: Uint8Array): TpmSignature {
  return decoding('ECDSA signature', () => ({
    scheme: 'ecdsa-sha256' as const,
    bytes: ecdsaDerToRaw(bytes, COORDINATE_BYTES),
  }));
}

function readEcdsa(reader: ByteReader): TpmSignature {
  const bytes = new Uint8Array(2 * COORDINATE_BYTES);
  for (const end of [COORDINATE_BYTES, 2 * COORDINATE_BYTES]) {
    const length = reader.u16be();
    if (length > COORDINATE_BYTES) {
      throw new AttestationError('malformed', `TPM signature has a coordinate of ${length} bytes`);
    }
    bytes.set(reader.take(length), end - length);
  }
  return { scheme: 'ecdsa-sha256', bytes };
}

function readRsassa(reader: ByteReader): TpmSignature {
  const length = reader.u16be();
  if (length > MAX_RSA_BYTES) throw new AttestationError('too-large', `RSA signature of ${length} bytes`);
  return { scheme: 'rsa-pkcs1-sha256', bytes: reader.take(length) };
}
