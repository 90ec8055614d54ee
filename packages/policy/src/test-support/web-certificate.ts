import { randomBytes, sign } from 'node:crypto';
import { der, encodePem } from '@dstack-cloud/encoding';
import { generateP256Key, type P256Key, p256KeyPem } from '@dstack-cloud/keys';

/** What a TLS server shows; PEM. */
export type WebIdentity = { readonly key: string; readonly cert: string };

/** The authority of a test. */
export type WebAuthority = {
  /** PEM of its own certificate. */
  readonly cert: string;
  issue(rules?: CertificateRules): WebIdentity;
};

/** Of a certificate; good for the address 127.0.0.1 around now when nothing else is said. */
export type CertificateRules = {
  /** Seconds from now. */
  readonly from?: number;
  readonly to?: number;
  /** IPv4 address that it is for. */
  readonly address?: string;
};

const DAY = 86_400;
const ECDSA_SHA256 = der.sequence(der.oid('1.2.840.10045.4.3.2'));
const BASIC_CONSTRAINTS = '2.5.29.19';
const ALTERNATIVE_NAME = '2.5.29.17';
/** [7] of GeneralName (RFC 5280, section 4.2.1.6). */
const IP_ADDRESS = 7;

/** An authority of the web with certificates of any time and address, also such as no honest one writes. */
export function webAuthority(rules: Pick<CertificateRules, 'from' | 'to'> = {}): WebAuthority {
  const key = generateP256Key();
  const name = nameOf('test authority');
  const constraints = der.sequence(der.boolean(true));
  const own = extension(BASIC_CONSTRAINTS, constraints, true);
  return {
    cert: certificate({ subject: name, issuer: name, spki: key.spki, signer: key, extension: own, ...rules }),
    issue({ address = '127.0.0.1', ...times } = {}) {
      const leaf = generateP256Key();
      const ip = der.implicit(IP_ADDRESS, Uint8Array.from(address.split('.'), Number));
      const names = extension(ALTERNATIVE_NAME, der.sequence(ip), false);
      const subject = nameOf('test server');
      const fields = { subject, issuer: name, spki: leaf.spki, signer: key, extension: names };
      return { key: p256KeyPem(leaf), cert: certificate({ ...fields, ...times }) };
    },
  };
}

type Fields = Pick<CertificateRules, 'from' | 'to'> & {
  readonly subject: Uint8Array;
  readonly issuer: Uint8Array;
  readonly spki: Uint8Array;
  readonly signer: P256Key;
  readonly extension: Uint8Array;
};

function certificate({ subject, issuer, spki, signer, extension, from = -DAY, to = DAY }: Fields): string {
  const now = Math.floor(Date.now() / 1000);
  const serial = new Uint8Array(randomBytes(8));
  // Positive, without a leading zero byte.
  serial[0] = (serial[0]! & 0x7f) | 0x40;
  const tbs = der.sequence(
    der.explicit(0, der.integer(2)),
    der.integer(serial),
    ECDSA_SHA256,
    issuer,
    der.sequence(der.time(now + from), der.time(now + to)),
    subject,
    spki,
    der.explicit(3, der.sequence(extension)),
  );
  const signature = new Uint8Array(sign('sha256', tbs, signer.privateKey));
  return encodePem('CERTIFICATE', der.sequence(tbs, ECDSA_SHA256, der.bitString(signature)));
}

function extension(oid: string, value: Uint8Array, critical: boolean): Uint8Array {
  return der.sequence(der.oid(oid), ...(critical ? [der.boolean(true)] : []), der.octetString(value));
}

function nameOf(text: string): Uint8Array {
  return der.sequence(der.set(der.sequence(der.oid('2.5.4.3'), der.utf8String(text))));
}
