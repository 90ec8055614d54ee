import { type Certificate, nameAttribute, parseCertificate } from '@dstack-cloud/attestation';
import { decodePemAll } from '@dstack-cloud/encoding';

/** Its key is public: every client of a KMS gets it, to sign certificates for one talk. */
const TEMPORARY_CA = 'Dstack Client Temp CA';
const COMMON_NAME = '2.5.4.3';

/** What the text of a file pins, or, as the rest of a sentence about the file, why it pins nothing. */
type PinnedRoots = { readonly spkis: Uint8Array[] } | { readonly problem: string; readonly cause?: unknown };

/**
 * Keys of the KMS roots that a PEM text pins, SPKI DER: one certificate, or a bundle. The CA of temporary client
 * certificates may stand in it, as the original's guide has it, and is no root: whoever holds its public key could pass
 * for a KMS. The enclave and the build of its image check a file by this.
 */
export function pinnedRootsOf(pem: string): PinnedRoots {
  let certificates: Certificate[];
  try {
    certificates = decodePemAll(pem, 'CERTIFICATE').map((der) => parseCertificate(der));
  } catch (cause) {
    return { problem: 'is not a PEM file of certificates', cause };
  }
  if (certificates.length === 0)
    return {
      problem:
        "holds no certificate: it is still the placeholder. Write the member ca_cert of your KMS's GetTempCaCert to it",
    };
  const roots = certificates.filter((one) => !isTemporary(one));
  if (roots.length === 0)
    return {
      problem:
        'holds only the CA of temporary client certificates (temp_ca_cert), whose key is public. Pin the member ca_cert of GetTempCaCert',
    };
  const leaf = roots.find(({ isCa }) => !isCa);
  if (leaf !== undefined)
    return {
      problem: `holds a certificate that is not a CA certificate (${commonName(leaf)}). Pin the member ca_cert of GetTempCaCert`,
    };
  return { spkis: roots.map(({ spki }) => spki) };
}

/** By name, and by what it may sign: a root has the CAs of applications below it. */
function isTemporary(certificate: Certificate): boolean {
  return commonName(certificate) === TEMPORARY_CA || certificate.pathLength === 0;
}

function commonName(certificate: Certificate): string {
  return nameAttribute(certificate.subject, COMMON_NAME) ?? '';
}
