import { decodePem, EncodingError, utf8Text } from '@dstack-cloud/encoding';
import { AttestationError } from '../errors.ts';
import { parseCertificate } from '../x509/certificate.ts';

/**
 * DER of the one certificate in a file that names a trust root: DER, or PEM with exactly one block.
 * @throws AttestationError `malformed`
 */
export function rootCertificate(file: Uint8Array): Uint8Array {
  const der = file[0] === 0x30 ? file : fromPem(file);
  parseCertificate(der);
  return der;
}

function fromPem(file: Uint8Array): Uint8Array {
  try {
    return decodePem(utf8Text(file), 'CERTIFICATE');
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw new AttestationError('malformed', `Not a certificate: ${cause.message}`, { cause });
  }
}
