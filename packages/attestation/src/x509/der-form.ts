import { bytesFromText, decodePemAll, EncodingError, utf8, utf8Text } from '@dstack-cloud/encoding';
import { AttestationError } from '../errors.ts';

/** What a PEM block of it is called (RFC 7468 sections 5.1 and 7). */
export type DerLabel = 'CERTIFICATE' | 'X509 CRL';

const MAX_BYTES = 8 << 20;
/** Hex of base64 of PEM: nobody nests deeper. */
const MAX_DEPTH = 3;
const SEQUENCE = 0x30;

/**
 * DER of one certificate or revocation list, in any form in which services and files hold them: DER, PEM, hex or base64,
 * also of each other (a PCCS answers with hex, which some recorders keep as hex of hex). Each input has one meaning:
 * DER has bytes that no text has, and base64 of DER begins with `M`, which is no hex digit. Nothing is verified.
 * @throws AttestationError `malformed`, `too-large`
 */
export function derForm(input: Uint8Array | string, label: DerLabel): Uint8Array {
  const forms = derForms(input, label);
  if (forms.length === 1) return forms[0]!;
  throw new AttestationError('malformed', `Expected one ${NAMES[label]}, found ${forms.length}`);
}

/** As `derForm`, for PEM text with any number of blocks, in order; text around the blocks is skipped. */
export function derForms(input: Uint8Array | string, label: DerLabel): Uint8Array[] {
  if (input.length > MAX_BYTES) throw new AttestationError('too-large', `${label} of ${input.length} bytes`);
  return unwrap(typeof input === 'string' ? utf8(input) : input, label, 0);
}

const NAMES: Readonly<Record<DerLabel, string>> = {
  CERTIFICATE: 'certificate',
  'X509 CRL': 'revocation list',
};

function unwrap(bytes: Uint8Array, label: DerLabel, depth: number): Uint8Array[] {
  if (!isAsciiText(bytes)) {
    if (bytes[0] === SEQUENCE) return [bytes];
    throw unknownForm(bytes, label);
  }
  if (depth === MAX_DEPTH) throw unknownForm(bytes, label);
  const text = utf8Text(bytes);
  try {
    if (text.includes('-----BEGIN ')) return decodePemAll(text, label);
    return unwrap(bytesFromText(text).bytes, label, depth + 1);
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw unknownForm(bytes, label, cause);
  }
}

/** Printable ASCII, tabs and line ends; nothing is text, too. */
export function isAsciiText(bytes: Uint8Array): boolean {
  return bytes.every(
    (byte) => (byte >= 0x20 && byte < 0x7f) || byte === 0x09 || byte === 0x0a || byte === 0x0d,
  );
}

function unknownForm(bytes: Uint8Array, label: DerLabel, cause?: EncodingError): AttestationError {
  const start = bytes.subarray(0, 40);
  const seen = isAsciiText(start)
    ? JSON.stringify(utf8Text(start))
    : [...start.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return new AttestationError('malformed', `Not a ${NAMES[label]}${cause ? `: ${cause.message}` : ''}`, {
    expected: `${NAMES[label]} as DER, PEM, hex or base64`,
    found: bytes.length === 0 ? 'nothing' : `${bytes.length} bytes, beginning with ${seen}`,
    cause,
  });
}
