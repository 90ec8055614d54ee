import { type Attestation, decodeAttestation, SNP_REPORT_BYTES } from '@dstack-cloud/attestation';
import { decodePemAll, EncodingError } from '@dstack-cloud/encoding';
import { VerifierError } from '../errors.ts';
import { recogniseCose } from './cose.ts';
import { decodeText } from './decode-text.ts';
import type { Evidence } from './evidence.ts';
import { recogniseJson } from './json.ts';

/** Real evidence is below 64 KiB; a VersionedAttestation may have 10 MiB, twice that as hex. */
export const MAX_EVIDENCE_BYTES: number = 24 * 1024 * 1024;
/** Hex of base64 of JSON: nobody nests deeper. */
const MAX_DEPTH = 4;

export interface RecogniseOptions {
  /**
   * Reads an RA-TLS certificate, as `parseRaTlsCertificate` of the ra-tls package does. Without it
   * certificates are refused: the browser build leaves it out.
   */
  readonly readRaTls?: (der: Uint8Array) => { readonly spki: Uint8Array; readonly attestation?: Attestation };
}

/**
 * Finds out what some bytes are: raw, as hex or base64 text, or as JSON. Nothing is verified.
 * @throws VerifierError `form-unknown`, `too-large`, `malformed`
 * @throws AttestationError when a VersionedAttestation cannot be decoded
 */
export function recogniseEvidence(bytes: Uint8Array, options: RecogniseOptions = {}): Evidence {
  if (bytes.length > MAX_EVIDENCE_BYTES) {
    throw new VerifierError(
      'too-large',
      `Evidence of ${bytes.length} bytes; the limit is ${MAX_EVIDENCE_BYTES}`,
    );
  }
  if (bytes.length === 0) throw new VerifierError('form-unknown', 'The evidence is empty');
  return recognise(bytes, options, 0);
}

function recognise(bytes: Uint8Array, options: RecogniseOptions, depth: number): Evidence {
  const binary = recogniseBinary(bytes, options);
  if (binary) return binary;
  const text = depth < MAX_DEPTH ? decodeText(bytes) : undefined;
  switch (text?.encoding) {
    case 'json':
      return recogniseJson(text.value, (inner) => recognise(inner, options, depth + 1));
    case 'pem':
      return raTls(firstCertificate(text.value), options);
    case 'hex':
    case 'base64': {
      const inner = recognise(text.bytes, options, depth + 1);
      return { ...inner, form: `${inner.form}-${text.encoding}` };
    }
    default:
      throw new VerifierError('form-unknown', unknownForm(bytes));
  }
}

function recogniseBinary(bytes: Uint8Array, options: RecogniseOptions): Evidence | undefined {
  const [first = -1, second = -1] = bytes;
  if (isSnpReport(bytes)) return { form: 'snp-report', kind: 'snp-report', report: bytes };
  if (isQuote(bytes)) return { form: 'quote', kind: 'quote', quote: bytes };
  // CBOR array of four, with or without tag 18; five is a COSE_Sign1 with an element too many.
  if (first === 0xd2 || first === 0x84 || (first === 0x85 && second === 0x44)) return recogniseCose(bytes);
  if (first === 0x30 && second === 0x82) return raTls(bytes, options);
  if (first === 0x00) return attestation(bytes, 'versioned-attestation-v0');
  if ((first >= 0x80 && first <= 0x8f) || first === 0xde || first === 0xdf) {
    return attestation(bytes, 'versioned-attestation-v1');
  }
  return undefined;
}

function attestation(bytes: Uint8Array, form: string): Evidence {
  return { form, kind: 'attestation', attestation: decodeAttestation(bytes) };
}

/**
 * An ECDSA quote header (docs/protocol/evidence.md section 8): version, key type 2, TEE type. Versions are checked
 * later.
 */
function isQuote(bytes: Uint8Array): boolean {
  if (bytes.length < 48) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint16(0, true);
  const tee = view.getUint32(4, true);
  return version >= 3 && version <= 15 && view.getUint16(2, true) <= 3 && (tee === 0 || tee === 0x81);
}

function isSnpReport(bytes: Uint8Array): boolean {
  if (bytes.length !== SNP_REPORT_BYTES) return false;
  const version = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  return version >= 1 && version <= 15;
}

function raTls(der: Uint8Array | undefined, options: RecogniseOptions): Evidence {
  const form = 'ra-tls-certificate';
  if (!der) throw new VerifierError('malformed', 'The PEM text holds no certificate');
  if (!options.readRaTls) throw new VerifierError('form-unknown', 'Certificates cannot be read here');
  let parsed: ReturnType<NonNullable<RecogniseOptions['readRaTls']>>;
  try {
    parsed = options.readRaTls(der);
  } catch (cause) {
    throw new VerifierError('malformed', `RA-TLS certificate: ${(cause as Error).message}`, { cause });
  }
  if (!parsed.attestation) throw new VerifierError('malformed', 'The certificate carries no attestation');
  return { form, kind: 'attestation', attestation: parsed.attestation, ratlsSpki: parsed.spki };
}

function firstCertificate(pem: string): Uint8Array | undefined {
  try {
    return decodePemAll(pem, 'CERTIFICATE')[0];
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw new VerifierError('malformed', `PEM text: ${cause.message}`, { cause });
  }
}

function unknownForm(bytes: Uint8Array): string {
  const start = [...bytes.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return `Nothing known starts with ${start}: expected a quote, attestation, document, report or certificate`;
}
