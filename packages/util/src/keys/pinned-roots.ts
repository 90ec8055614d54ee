import { type Certificate, nameAttribute, parseCertificate } from '@dstack-cloud/attestation';
import { decodePemAll } from '@dstack-cloud/encoding';
import { UtilError } from '../errors.ts';
import { readNamedFile } from '../files.ts';

const MAX_BUNDLE = 256 * 1024;
/** Its key is public: every client of a KMS gets it, to sign certificates for one talk. */
const TEMPORARY_CA = 'Dstack Client Temp CA';
const COMMON_NAME = '2.5.4.3';

/**
 * Keys of the roots that a file pins, SPKI DER: one certificate, or a bundle. The CA of temporary client certificates may
 * stand in it, as the original's guide has it, and is no root: whoever holds its public key could pass for a KMS.
 *
 * @throws UtilError that says what the file is instead
 */
export async function readPinnedRoots(path: string): Promise<Uint8Array[]> {
  const bytes = await readNamedFile(path, `failed to read root CA from ${path}`, MAX_BUNDLE);
  const certificates = parseBundle(path, new TextDecoder().decode(bytes));
  if (certificates.length === 0)
    throw new UtilError(
      `${path} holds no certificate: it is still the placeholder. Write the member ca_cert of your KMS's GetTempCaCert to it`,
    );
  const roots = certificates.filter((one) => !isTemporary(one));
  if (roots.length === 0)
    throw new UtilError(
      `${path} holds only the CA of temporary client certificates (temp_ca_cert), whose key is public. Pin the member ca_cert of GetTempCaCert`,
    );
  const leaf = roots.find(({ isCa }) => !isCa);
  if (leaf !== undefined)
    throw new UtilError(
      `${path} holds a certificate that is not a CA certificate (${commonName(leaf)}). Pin the member ca_cert of GetTempCaCert`,
    );
  return roots.map(({ spki }) => spki);
}

function parseBundle(path: string, text: string): Certificate[] {
  try {
    return decodePemAll(text, 'CERTIFICATE').map((der) => parseCertificate(der));
  } catch (cause) {
    throw new UtilError(`${path} is not a PEM file of certificates`, cause);
  }
}

/** By name, and by what it may sign: a root has the CAs of applications below it. */
function isTemporary(certificate: Certificate): boolean {
  return commonName(certificate) === TEMPORARY_CA || certificate.pathLength === 0;
}

function commonName(certificate: Certificate): string {
  return nameAttribute(certificate.subject, COMMON_NAME) ?? '';
}
