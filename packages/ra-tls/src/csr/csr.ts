import { type Attestation, encodeAttestationForAll } from '@dstack-cloud/attestation';
import { ScaleReader, ScaleWriter } from '@dstack-cloud/encoding';

/** The confirm word of every request (docs/protocol/ra-tls.md section 4.1). */
export const CONFIRM_WORD = 'please sign cert:';

/** Longest request: evidence with a whole event log has some hundred kilobytes. */
export const MAX_CSR_BYTES: number = 4 << 20;
const MAX_CONFIRM_BYTES = 1024;
const MAX_ALT_NAMES = 1024;
const MAX_TEXT_BYTES = 64 * 1024;
const MAX_SPKI_BYTES = 1024;

/** What the certificate shall say. */
export interface CsrConfig {
  readonly orgName?: string;
  readonly subject: string;
  readonly subjectAltNames: readonly string[];
  readonly usageServerAuth: boolean;
  readonly usageClientAuth: boolean;
  readonly extQuote: boolean;
  readonly extAppInfo: boolean;
  /** Unix seconds. */
  readonly notBefore?: bigint;
  readonly notAfter?: bigint;
}

/** What both formats say before the evidence. */
export interface CsrHead {
  readonly confirm: string;
  /** DER SubjectPublicKeyInfo. */
  readonly pubkey: Uint8Array;
  readonly config: CsrConfig;
}

/** A request of format 2. */
export interface CsrV2 extends CsrHead {
  readonly attestation: Attestation;
}

/** A request of format 1: bare TDX evidence; without app info and validity. */
export interface CsrV1 extends CsrHead {
  readonly quote: Uint8Array;
  /** JSON text. */
  readonly eventLog: Uint8Array;
}

/** SCALE encoding of a request of format 2. */
export function encodeCsrV2(csr: CsrV2): Uint8Array {
  const writer = new ScaleWriter().string(csr.confirm).bytes(csr.pubkey);
  writeConfigV1(writer, csr.config);
  writer.bool(csr.config.extAppInfo);
  writer.option(csr.config.notBefore, (time) => writer.u64(time));
  writer.option(csr.config.notAfter, (time) => writer.u64(time));
  return writer.fixed(encodeAttestationForAll(csr.attestation)).finish();
}

/** SCALE encoding of a request of format 1. */
export function encodeCsrV1(csr: CsrV1): Uint8Array {
  const writer = new ScaleWriter().string(csr.confirm).bytes(csr.pubkey);
  writeConfigV1(writer, csr.config);
  return writer.bytes(csr.quote).bytes(csr.eventLog).finish();
}

/** Reads a request of format 2 up to its evidence, which runs to the end. @throws EncodingError */
export function decodeCsrV2(bytes: Uint8Array): CsrHead & { readonly evidence: Uint8Array } {
  const reader = new ScaleReader(bytes);
  const confirm = reader.string(MAX_CONFIRM_BYTES);
  const pubkey = reader.bytes(MAX_SPKI_BYTES);
  const first = readConfigV1(reader);
  const extAppInfo = reader.bool();
  const notBefore = reader.option(() => reader.u64());
  const notAfter = reader.option(() => reader.u64());
  const config = {
    ...first,
    extAppInfo,
    ...(notBefore !== undefined && { notBefore }),
    ...(notAfter !== undefined && { notAfter }),
  };
  return { confirm, pubkey, config, evidence: reader.fixed(reader.remaining) };
}

/** Reads format 1; what the quote and the log say is not looked at. @throws EncodingError */
export function decodeCsrV1(bytes: Uint8Array): CsrV1 {
  const reader = new ScaleReader(bytes);
  const confirm = reader.string(MAX_CONFIRM_BYTES);
  const pubkey = reader.bytes(MAX_SPKI_BYTES);
  const config = { ...readConfigV1(reader), extAppInfo: false };
  const quote = reader.bytes();
  const eventLog = reader.bytes();
  reader.finish();
  return { confirm, pubkey, config, quote, eventLog };
}

function writeConfigV1(writer: ScaleWriter, config: CsrConfig): void {
  writer.option(config.orgName, (name) => writer.string(name));
  writer.string(config.subject).vec(config.subjectAltNames, (name) => writer.string(name));
  writer.bool(config.usageServerAuth).bool(config.usageClientAuth).bool(config.extQuote);
}

function readConfigV1(reader: ScaleReader): Omit<CsrConfig, 'extAppInfo'> {
  const orgName = reader.option(() => reader.string(MAX_TEXT_BYTES));
  return {
    ...(orgName !== undefined && { orgName }),
    subject: reader.string(MAX_TEXT_BYTES),
    subjectAltNames: reader.vec(() => reader.string(MAX_TEXT_BYTES), MAX_ALT_NAMES),
    usageServerAuth: reader.bool(),
    usageClientAuth: reader.bool(),
    extQuote: reader.bool(),
  };
}
