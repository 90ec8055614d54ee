/** Client certificates with any extensions, also ones that no honest issuer writes. */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { type Attestation, encodeAttestation, stripForCertificate } from '@dstack-cloud/attestation';
import { decodePem, der } from '@dstack-cloud/encoding';
import { type P256Key, p256KeyPem } from '@dstack-cloud/keys';
import { OID } from '@dstack-cloud/ra-tls';
import { cryptoProvider, Extension, X509CertificateGenerator } from '@peculiar/x509';
import type { TempCa } from './kms-lab.ts';

cryptoProvider.set(webcrypto);
const ES256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/**
 * A certificate for `key` that carries each of these attestations in an extension of its own; self-signed without a CA.
 * @param more further extensions, wrapped as ours are
 */
export async function forgedIdentity(
  key: P256Key,
  attestations: readonly Attestation[],
  ca?: TempCa,
  more: readonly (readonly [oid: string, payload: Uint8Array])[] = [],
): Promise<{ cert: string; key: string }> {
  const publicKey = await webcrypto.subtle.importKey('spki', key.spki, ES256, true, ['verify']);
  const signer = ca === undefined ? key.pkcs8 : decodePem(ca.tempCaKey, 'PRIVATE KEY');
  const certificate = await X509CertificateGenerator.create({
    subject: 'CN=forged',
    issuer: ca === undefined ? 'CN=forged' : 'O=Dstack, CN=Dstack Client Temp CA',
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 3_600_000),
    signingAlgorithm: ES256,
    signingKey: await webcrypto.subtle.importKey('pkcs8', signer, ES256, true, ['sign']),
    publicKey,
    extensions: [
      ...attestations.map(
        (attestation) => [OID.attestation, encodeAttestation(stripForCertificate(attestation))] as const,
      ),
      ...more,
    ].map(([oid, payload]) => new Extension(oid, false, der.octetString(payload))),
  });
  return { cert: certificate.toString('pem'), key: p256KeyPem(key) };
}
