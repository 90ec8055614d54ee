import { createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto';
import { equalBytes } from '@dstack-cloud/encoding';
import { EifError } from '../errors.ts';
import { type Curve, curveOf, readCertificate } from '../format/signature.ts';

/** Somebody who signs PCR 0: a key in a file, in a module, or with a service. */
export interface EifSigner {
  /** PEM file of the certificate; its first certificate counts. */
  readonly certificate: Uint8Array;
  /**
   * ECDSA over the hash of these bytes, about 200 of them: r‖s as COSE has it, or the DER of most services. The hash is that of
   * the curve: SHA-256, SHA-384, SHA-512.
   */
  sign(message: Uint8Array, curve: Curve): Promise<Uint8Array>;
}

/** Signs with a private key of a PEM file. @throws EifError `bad-argument`, `certificate-invalid` */
export function keySigner(certificate: Uint8Array, privateKey: Uint8Array): EifSigner {
  let key: KeyObject;
  try {
    key = createPrivateKey(Buffer.from(privateKey));
  } catch (cause) {
    throw new EifError('bad-argument', 'The private key cannot be read', {
      expected: 'a PEM file without a password',
      cause,
    });
  }
  curveOf(key);
  requirePair(certificate, key);
  return {
    certificate,
    sign: async (message, curve) =>
      new Uint8Array(sign(curve.hash, message, { key, dsaEncoding: 'ieee-p1363' })),
  };
}

function requirePair(certificate: Uint8Array, key: KeyObject): void {
  const spki = (of: KeyObject) => of.export({ format: 'der', type: 'spki' });
  if (equalBytes(spki(createPublicKey(key)), spki(readCertificate(certificate).publicKey))) return;
  throw new EifError('bad-argument', 'The private key is not the one of the signing certificate', {
    hint: 'Give the certificate that was made for this key',
  });
}
