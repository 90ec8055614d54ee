import { generateKeyPairSync, sign } from 'node:crypto';
import { der, encodePem, utf8 } from '@dstack-cloud/encoding';

export interface SigningKey {
  /** PEM. */
  readonly certificate: Uint8Array;
  /** PEM. */
  readonly privateKey: Uint8Array;
}

export interface KeyOptions {
  readonly curve?: 'P-256' | 'P-384' | 'P-521';
  readonly notBefore?: string;
  readonly notAfter?: string;
}

const ECDSA_SHA384 = der.sequence(der.oid('1.2.840.10045.4.3.3'));

/** A key with a certificate of itself. */
export function signingKey(options: KeyOptions = {}): SigningKey {
  const { curve = 'P-384', notBefore = '2026-01-01', notAfter = '2060-01-01' } = options;
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: curve });
  const name = der.sequence(der.set(der.sequence(der.oid('2.5.4.3'), der.utf8String('image signer'))));
  const time = (date: string) => der.time(Date.parse(date) / 1000);
  const tbs = der.sequence(
    der.explicit(0, der.integer(2)),
    der.integer(1),
    ECDSA_SHA384,
    name,
    der.sequence(time(notBefore), time(notAfter)),
    name,
    publicKey.export({ format: 'der', type: 'spki' }),
  );
  const signature = sign('sha384', tbs, privateKey);
  const certificate = der.sequence(tbs, ECDSA_SHA384, der.bitString(signature));
  return {
    certificate: utf8(encodePem('CERTIFICATE', certificate)),
    privateKey: utf8(privateKey.export({ format: 'pem', type: 'pkcs8' }) as string),
  };
}
