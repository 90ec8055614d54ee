import {
  DerReader,
  derInteger,
  derOctetString,
  derTag,
  EncodingError,
  readDer,
  toHex,
} from '@dstack-cloud/encoding';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';
import { type Certificate, extensionValue } from '../x509/certificate.ts';

/** What Intel certifies about a platform in its PCK certificate. */
export interface PckPlatform {
  /** 16 bytes. */
  readonly ppid: Uint8Array;
  /** 16 bytes. */
  readonly cpuSvn: Uint8Array;
  readonly pceSvn: number;
  /** 2 bytes. */
  readonly pceId: Uint8Array;
  /** 6 bytes. */
  readonly fmspc: Uint8Array;
}

/** Intel SGX PCK Certificate and CRL Profile, section 1.3.5. */
export const SGX_EXTENSION = '1.2.840.113741.1.13.1';
/** Contents of its members' OIDs, as hex: there are forty of them, and comparing bytes needs no decoding. */
const MEMBER = '2a864886f84d010d01';
const OID = {
  ppid: `${MEMBER}01`,
  tcb: `${MEMBER}02`,
  pceId: `${MEMBER}03`,
  fmspc: `${MEMBER}04`,
  pceSvn: `${MEMBER}0211`,
  cpuSvn: `${MEMBER}0212`,
} as const;

/** Reads the SGX extension of a PCK certificate. @throws AttestationError `malformed` */
export function readPckPlatform(certificate: Certificate): PckPlatform {
  const value = extensionValue(certificate, SGX_EXTENSION);
  if (!value) throw new AttestationError('malformed', 'The PCK certificate has no SGX extension');
  return decoding('SGX extension', () => {
    const fields = readPairs(value);
    const tcb = readPairs(need(fields, OID.tcb));
    const pceSvn = derInteger(readDer(need(tcb, OID.pceSvn)));
    if (pceSvn < 0n || pceSvn > 0xffffn)
      throw new EncodingError('invalid-value', 'PCESVN is no 16-bit number');
    return {
      ppid: octets(fields, OID.ppid, 16),
      cpuSvn: octets(tcb, OID.cpuSvn, 16),
      pceSvn: Number(pceSvn),
      pceId: octets(fields, OID.pceId, 2),
      fmspc: octets(fields, OID.fmspc, 6),
    };
  });
}

/** A SEQUENCE of {OID, value}, as DER elements by the contents of the OID; none twice. */
function readPairs(bytes: Uint8Array): ReadonlyMap<string, Uint8Array> {
  const outer = readDer(bytes);
  if (outer.tag !== derTag.sequence) throw new EncodingError('unexpected-tag', 'no SEQUENCE');
  const reader = new DerReader(outer.contents);
  const pairs = new Map<string, Uint8Array>();
  while (!reader.done) {
    const pair = new DerReader(reader.next(derTag.sequence).contents);
    const oid = toHex(pair.next(derTag.oid).contents);
    const value = pair.next();
    pair.finish();
    if (pairs.has(oid)) throw new EncodingError('invalid-value', `${oid} twice`);
    pairs.set(oid, value.raw);
  }
  return pairs;
}

function octets(pairs: ReadonlyMap<string, Uint8Array>, oid: string, length: number): Uint8Array {
  const bytes = derOctetString(readDer(need(pairs, oid)));
  if (bytes.length !== length) throw new EncodingError('invalid-value', `${oid} has ${bytes.length} bytes`);
  return bytes;
}

function need(pairs: ReadonlyMap<string, Uint8Array>, oid: string): Uint8Array {
  const value = pairs.get(oid);
  if (!value) throw new EncodingError('invalid-value', `${oid} is missing`);
  return value;
}
