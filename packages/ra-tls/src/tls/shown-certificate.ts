import {
  contextTag,
  DerReader,
  der,
  derOctetString,
  derTag,
  derTime,
  equalBytes,
  readDer,
} from '@dstack-cloud/encoding';
import { OID } from '../oid.ts';

/**
 * A client's certificate as it was shown. Whoever opens a connection may show one, so no more of it is read than how
 * long it is in force and whether evidence is in it: a kilobyte of a compressed event log would become megabytes.
 */
export interface ShownCertificate {
  readonly der: Uint8Array;
  /** DER SubjectPublicKeyInfo. */
  readonly spki: Uint8Array;
  /** Unix seconds. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** Bytes of evidence in it, unread; 0 when there is none. */
  readonly evidenceBytes: number;
  /** An extension with evidence stands in it twice (against RFC 5280 section 4.2): of two attestations, which one is it? */
  readonly isRepeated: boolean;
}

/** Extensions that hold evidence; the event log is nothing without a quote. */
const EVIDENCE: readonly Uint8Array[] = [OID.attestation, OID.tdxQuote].map((oid) => der.oid(oid));
const EVENT_LOG: Uint8Array = der.oid(OID.tdxEventLog);
const MAX_EXTENSIONS = 64;

/** Glances at a certificate (RFC 5280 section 4.1). @throws EncodingError when its structure is not that of one */
export function glanceAt(certificate: Uint8Array): ShownCertificate {
  const fields = new DerReader(new DerReader(readDer(certificate).contents).next(derTag.sequence).contents);
  fields.optional(contextTag(0));
  fields.next(derTag.integer);
  fields.next(derTag.sequence);
  fields.next(derTag.sequence);
  const validity = new DerReader(fields.next(derTag.sequence).contents);
  const notBefore = derTime(validity.next());
  const notAfter = derTime(validity.next());
  fields.next(derTag.sequence);
  const spki = fields.next(derTag.sequence).raw;
  fields.optional(contextTag(1, false));
  fields.optional(contextTag(2, false));
  const extensions = fields.optional(contextTag(3));
  const none = { evidenceBytes: 0, isRepeated: false };
  const evidence = extensions === undefined ? none : evidenceIn(readDer(extensions.contents).contents);
  return { der: certificate, spki, notBefore, notAfter, ...evidence };
}

function evidenceIn(extensions: Uint8Array): Pick<ShownCertificate, 'evidenceBytes' | 'isRepeated'> {
  const list = new DerReader(extensions);
  const seen: Uint8Array[] = [];
  let [evidence, eventLog, isRepeated] = [0, 0, false];
  for (let count = 0; count < MAX_EXTENSIONS && !list.done; count++) {
    const extension = new DerReader(list.next(derTag.sequence).contents);
    const oid = extension.next(derTag.oid).raw;
    extension.optional(derTag.boolean);
    const { length } = derOctetString(extension.next(derTag.octetString));
    const isEvidence = EVIDENCE.some((one) => equalBytes(one, oid));
    if (!isEvidence && !equalBytes(EVENT_LOG, oid)) continue;
    isRepeated ||= seen.some((one) => equalBytes(one, oid));
    seen.push(oid);
    if (isEvidence) evidence += length;
    else eventLog += length;
  }
  return { evidenceBytes: evidence === 0 ? 0 : evidence + eventLog, isRepeated };
}
