import { concatBytes, decodeCbor, utf8 } from '@dstack-cloud/encoding';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';

/** NSM documents are under 16 KiB; NitroTPM's message buffer has 8 KiB. */
const MAX_DOCUMENT_BYTES = 64 * 1024;
const LABEL_ALG = 1;
const LABEL_CRIT = 2;
const ES384 = -35;
const P384_SIGNATURE_BYTES = 96;

/** A COSE_Sign1 of the AWS form (RFC 9052 section 4.2), parsed; the signature is not verified. */
export interface CoseSign1 {
  /** Serialised protected header. */
  readonly protectedHeader: Uint8Array;
  readonly payload: Uint8Array;
  /** r‖s, 96 bytes. */
  readonly signature: Uint8Array;
}

/**
 * Reads the outer array, with or without tag 18 (docs/protocol/evidence.md section 10).
 * @throws AttestationError `malformed`, `too-large`, `unsupported` for another algorithm or critical headers
 */
export function parseCoseSign1(bytes: Uint8Array): CoseSign1 {
  if (bytes.length > MAX_DOCUMENT_BYTES) {
    throw new AttestationError('too-large', `Attestation document of ${bytes.length} bytes`);
  }
  const parts = decoding('COSE_Sign1', () => decodeCbor(bytes));
  if (!Array.isArray(parts) || parts.length !== 4) {
    throw new AttestationError('malformed', 'COSE_Sign1 must be an array of four', {
      expected: '4',
      found: Array.isArray(parts) ? String(parts.length) : typeof parts,
    });
  }
  const [protectedHeader, unprotected, payload, signature] = parts as unknown[];
  if (
    !(protectedHeader instanceof Uint8Array) ||
    !(unprotected instanceof Map) ||
    !(payload instanceof Uint8Array) ||
    !(signature instanceof Uint8Array)
  ) {
    throw new AttestationError('malformed', 'COSE_Sign1 with elements of other types');
  }
  checkHeader(protectedHeader);
  if (signature.length !== P384_SIGNATURE_BYTES) {
    throw new AttestationError('malformed', 'COSE signature is not one of P-384', {
      expected: String(P384_SIGNATURE_BYTES),
      found: String(signature.length),
    });
  }
  return { protectedHeader, payload, signature };
}

/** The bytes that are signed: Sig_structure with an empty external_aad (RFC 9052 section 4.4). */
export function signedBytes(cose: CoseSign1): Uint8Array {
  return concatBytes(
    Uint8Array.of(0x84, 0x6a),
    utf8('Signature1'),
    byteString(cose.protectedHeader),
    Uint8Array.of(0x40),
    byteString(cose.payload),
  );
}

function checkHeader(bytes: Uint8Array): void {
  const header = decoding('COSE protected header', () => decodeCbor(bytes));
  if (!(header instanceof Map)) throw new AttestationError('malformed', 'COSE protected header is no map');
  if (header.get(LABEL_ALG) !== ES384) {
    throw new AttestationError('unsupported', 'COSE algorithm is not ES384', {
      expected: String(ES384),
      found: String(header.get(LABEL_ALG)),
    });
  }
  if (!header.has(LABEL_CRIT)) return;
  // RFC 9052 section 3.1: an array of labels, not empty, each understood.
  const critical: unknown = header.get(LABEL_CRIT);
  if (!Array.isArray(critical) || critical.length === 0 || critical.some((label) => label !== LABEL_ALG)) {
    throw new AttestationError('unsupported', 'COSE header has critical labels that are not understood');
  }
}

/** A CBOR byte string with the shortest length (RFC 8949 section 4.2.1). */
function byteString(bytes: Uint8Array): Uint8Array {
  const { length } = bytes;
  if (length < 24) return concatBytes(Uint8Array.of(0x40 | length), bytes);
  if (length < 0x100) return concatBytes(Uint8Array.of(0x58, length), bytes);
  return concatBytes(Uint8Array.of(0x59, length >> 8, length & 0xff), bytes);
}
