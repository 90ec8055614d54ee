import { verify } from 'node:crypto';
import { equalBytes, toHex } from '@dstack-cloud/encoding';
import { EifError } from './errors.ts';
import { type EifSignature, readCertificate } from './format/signature.ts';
import type { Eif } from './measure/read-eif.ts';
import { measurements, PCR_NAMES, type PcrName } from './measurements.ts';

export interface VerifyEifOptions {
  /** The time for which the certificate must be valid. */
  readonly now: Date;
  /** Refuse an image without a signature. */
  readonly requireSignature?: boolean;
  /** PEM file of the certificate that must have signed. */
  readonly certificate?: Uint8Array;
  /** Registers that the image must have, hex. */
  readonly expected?: Partial<Record<PcrName, string>>;
}

/**
 * Refuses an image whose checksum, signature or registers are not what they must be. A signature alone says only that
 * whoever holds the key of that certificate signed: name the certificate, or PCR 8, to say who.
 *
 * @throws EifError `crc-differs`, `not-signed`, `certificate-invalid`, `signature-invalid`, `measurement-differs`
 */
export function verifyEif(eif: Eif, options: VerifyEifOptions): void {
  if (eif.crc32 !== eif.header.crc32)
    throw new EifError('crc-differs', 'The checksum in the header is not that of the content', {
      expected: hex32(eif.crc32),
      found: hex32(eif.header.crc32),
      hint: 'The file was damaged or changed; build or download it again',
    });
  const { signature } = eif;
  if (signature === undefined) {
    if (options.requireSignature === true || options.certificate !== undefined)
      throw new EifError('not-signed', 'The enclave image is not signed');
  } else requireSignature(signature, eif.pcrs.pcr0, options);
  const found = measurements(eif.pcrs, eif.pcr8);
  for (const name of PCR_NAMES) {
    const expected = options.expected?.[name];
    if (expected === undefined || expected === found[name]) continue;
    throw new EifError('measurement-differs', `${name} of the enclave image is not the one expected`, {
      expected,
      found: found[name] ?? 'none: the image is not signed',
    });
  }
}

function requireSignature(signature: EifSignature, pcr0: Uint8Array, options: VerifyEifOptions): void {
  const { certificate } = signature;
  if (options.certificate !== undefined) {
    const wanted = readCertificate(options.certificate).certificate;
    if (!equalBytes(wanted.der, certificate.der))
      throw new EifError('certificate-invalid', 'The enclave image is signed with another certificate', {
        expected: `serial number ${toHex(wanted.serial)}`,
        found: `serial number ${toHex(certificate.serial)}`,
      });
  }
  requireValidAt(certificate, options.now);
  if (!verifies(signature))
    throw new EifError('signature-invalid', 'The signature is not one of the signing certificate');
  if (!equalBytes(signature.pcr0, pcr0))
    throw new EifError('signature-invalid', 'The signature is for an image with another PCR 0', {
      expected: toHex(pcr0),
      found: toHex(signature.pcr0),
    });
}

/** @throws EifError `certificate-invalid` */
export function requireValidAt(certificate: { notBefore: number; notAfter: number }, now: Date): void {
  const seconds = now.getTime() / 1000;
  const time = (unix: number): string => new Date(unix * 1000).toISOString();
  if (seconds > certificate.notAfter)
    throw new EifError('certificate-invalid', 'The signing certificate has expired', {
      expected: `a time before ${time(certificate.notAfter)}`,
      found: now.toISOString(),
    });
  if (seconds < certificate.notBefore)
    throw new EifError('certificate-invalid', 'The signing certificate is not valid yet', {
      expected: `a time after ${time(certificate.notBefore)}`,
      found: now.toISOString(),
    });
}

/** Whether the certificate's key signed this PCR 0; says nothing about the time. */
export function signatureHolds(signature: EifSignature, pcr0: Uint8Array): boolean {
  return verifies(signature) && equalBytes(signature.pcr0, pcr0);
}

function verifies({ publicKey, curve, signedBytes, signature }: EifSignature): boolean {
  return verify(curve.hash, signedBytes, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature);
}

function hex32(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}
