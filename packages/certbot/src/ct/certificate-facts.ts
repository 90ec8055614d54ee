import { DerReader, toHex, utf8Text } from '@dstack-cloud/encoding';

/** What matters of a certificate or a precertificate that a log shows. */
export type CertificateFacts = {
  /** Hex of the DER SubjectPublicKeyInfo. */
  readonly spki: string;
  /** DNS names, lower case, from the extension alone: what browsers look at. */
  readonly names: readonly string[];
  /** Hex. */
  readonly serial: string;
  /** Unix seconds. */
  readonly notAfter: number;
};

const SUBJECT_ALT_NAME = '0603551d11';
const [BOOLEAN, INTEGER, OCTET_STRING, SEQUENCE] = [0x01, 0x02, 0x04, 0x30];
const [VERSION, EXTENSIONS, DNS_NAME] = [0xa0, 0xa3, 0x82];
const [UTC_TIME, GENERALIZED_TIME] = [0x17, 0x18];

/** @param der a whole certificate @throws EncodingError */
export function factsOfCertificate(der: Uint8Array): CertificateFacts {
  return factsOfTbs(new DerReader(new DerReader(der).next(SEQUENCE).contents).next(SEQUENCE).raw);
}

/** @param der TBSCertificate (RFC 5280 section 4.1), as precertificate entries of logs have it @throws EncodingError */
export function factsOfTbs(der: Uint8Array): CertificateFacts {
  const tbs = new DerReader(new DerReader(der).next(SEQUENCE).contents);
  tbs.optional(VERSION);
  const serial = toHex(tbs.next(INTEGER).contents);
  tbs.next(SEQUENCE);
  tbs.next(SEQUENCE);
  const validity = new DerReader(tbs.next(SEQUENCE).contents);
  validity.next();
  const end = validity.next();
  tbs.next(SEQUENCE);
  const key = tbs.next(SEQUENCE);
  new DerReader(new DerReader(key.contents).next(SEQUENCE).raw);
  const names: string[] = [];
  while (!tbs.done) {
    const found = tbs.next();
    if (found.tag !== EXTENSIONS) continue;
    const extensions = new DerReader(new DerReader(found.contents).next(SEQUENCE).contents);
    while (!extensions.done) {
      const extension = new DerReader(extensions.next(SEQUENCE).contents);
      const isNames = toHex(extension.next(0x06).raw) === SUBJECT_ALT_NAME;
      extension.optional(BOOLEAN);
      const value = extension.next(OCTET_STRING).contents;
      if (!isNames) continue;
      const list = new DerReader(new DerReader(value).next(SEQUENCE).contents);
      while (!list.done) {
        const { tag, contents } = list.next();
        if (tag === DNS_NAME) names.push(utf8Text(contents).toLowerCase());
      }
    }
  }
  return { spki: toHex(key.raw), names, serial, notAfter: unixTime(end.tag, utf8Text(end.contents)) };
}

/** RFC 5280 section 4.1.2.5; what is no time never ends, so that it is no excuse. */
function unixTime(tag: number, text: string): number {
  const match = (
    tag === UTC_TIME ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/ : /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/
  ).exec(text);
  if (match === null || (tag !== UTC_TIME && tag !== GENERALIZED_TIME)) return Number.MAX_SAFE_INTEGER;
  const [year, month, day, hour, minute, second] = match.slice(1).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const full = tag === GENERALIZED_TIME ? year : year < 50 ? 2000 + year : 1900 + year;
  return Math.floor(Date.UTC(full, month - 1, day, hour, minute, second) / 1000);
}

/** Whether a certificate is for the domain or a name below it. */
export function isForDomain({ names }: CertificateFacts, domain: string): boolean {
  return names.some((name) => name === domain || name.endsWith(`.${domain}`));
}
