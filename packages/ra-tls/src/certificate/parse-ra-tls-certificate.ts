import {
  type Attestation,
  AttestationError,
  attestationFromQuote,
  type Certificate,
  decodeAttestation,
  extensionValue,
  parseCertificate,
} from '@dstack-cloud/attestation';
import { derOctetString, EncodingError, equalBytes, readDer, utf8, utf8Text } from '@dstack-cloud/encoding';
import { gunzip } from '#gunzip';
import { messageOf, RaTlsError } from '../errors.ts';
import { OID } from '../oid.ts';
import { type AppInfo, decodeAppInfo } from './app-info.ts';

const GZIP_PREFIX = utf8('ELGZv1');
const MAX_INFLATED_BYTES = 1 << 20;
const MAX_USAGE_BYTES = 256;

/** A certificate and what our extensions in it claim. Nothing has been verified. */
export interface RaTlsCertificate {
  readonly certificate: Certificate;
  /** DER SubjectPublicKeyInfo. */
  readonly spki: Uint8Array;
  readonly usage?: string;
  readonly appId?: Uint8Array;
  readonly appInfo?: AppInfo;
  readonly attestation?: Attestation;
}

/**
 * Reads the extensions of docs/protocol/ra-tls.md section 1.2: each at most once, wrapped twice; .8 before .1 with .2.
 * @throws RaTlsError `malformed` with the texts of the original
 */
export function parseRaTlsCertificate(der: Uint8Array): RaTlsCertificate {
  const certificate = inContext('Failed to parse certificate', () => parseCertificate(der));
  const appId = payload(certificate, OID.appId);
  const appInfo = payload(certificate, OID.appInfo);
  const usage = payload(certificate, OID.usage);
  const attestation = attestationOf(certificate);
  if (usage && usage.length > MAX_USAGE_BYTES)
    throw new RaTlsError('malformed', 'The usage extension is too long');
  return {
    certificate,
    spki: certificate.spki,
    ...(usage && { usage: inContext('Failed to decode the usage extension', () => utf8Text(usage)) }),
    ...(appId && { appId }),
    ...(appInfo && { appInfo: decodeAppInfo(appInfo) }),
    ...(attestation && { attestation }),
  };
}

function attestationOf(certificate: Certificate): Attestation | undefined {
  const encoded = payload(certificate, OID.attestation);
  if (encoded) {
    return inContext('Failed to decode attestation from cert extension', () => decodeAttestation(encoded));
  }
  const quote = payload(certificate, OID.tdxQuote);
  if (!quote) return undefined;
  const eventLog = payload(certificate, OID.tdxEventLog);
  if (!eventLog) throw new RaTlsError('malformed', 'TDX event log missing');
  return inContext('Failed to create attestation from TDX quote: Failed to parse tdx_event_log', () =>
    attestationFromQuote(quote, utf8Text(inflated(eventLog))),
  );
}

/** The event log may be compressed: a prefix and a gzip stream. We read that form and never write it. */
function inflated(eventLog: Uint8Array): Uint8Array {
  if (!equalBytes(eventLog.subarray(0, GZIP_PREFIX.length), GZIP_PREFIX)) return eventLog;
  try {
    return gunzip(eventLog.subarray(GZIP_PREFIX.length), MAX_INFLATED_BYTES);
  } catch (cause) {
    throw new EncodingError('invalid-value', 'the compressed event log is damaged or too large', { cause });
  }
}

function payload(certificate: Certificate, oid: string): Uint8Array | undefined {
  const value = extensionValue(certificate, oid);
  if (!value) return undefined;
  const context = `Failed to get extension for [${oid.replaceAll('.', ', ')}]`;
  return inContext(context, () => derOctetString(readDer(value)));
}

function inContext<T>(context: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof EncodingError) && !(cause instanceof AttestationError)) throw cause;
    throw new RaTlsError('malformed', `${context}: ${messageOf(cause)}`, { cause });
  }
}
