import { type Attestation, ratlsReportData } from '@dstack-cloud/attestation';
import { decodePem } from '@dstack-cloud/encoding';
import { generateP256Key, type P256Key, p256KeyFromPem, p256KeyPem } from '@dstack-cloud/keys';
import { certificatePem, issuerOf } from '../certificate/issue-certificate.ts';
import { tempClient } from '../certificate/profiles.ts';

export interface TempClientInput {
  /** PEM, as GetTempCaCert gives them. */
  readonly tempCaCert: string;
  readonly tempCaKey: string;
  /** Obtains evidence over 64 bytes of report data. */
  readonly attest: (reportData: Uint8Array) => Promise<Attestation>;
  /** Unix seconds. */
  readonly now: number;
  /** Default: a new key. */
  readonly key?: P256Key;
}

/**
 * An attested client certificate for one talk with a KMS: certificate and key as PEM (docs/protocol/ra-tls.md section
 * 5.2).
 */
export async function tempClientIdentity(
  input: TempClientInput,
): Promise<{ readonly cert: string; readonly key: string }> {
  const { attest, now, key = generateP256Key() } = input;
  const issuer = issuerOf(decodePem(input.tempCaCert, 'CERTIFICATE'), p256KeyFromPem(input.tempCaKey));
  const attestation = await attest(ratlsReportData(key.spki));
  const certificate = tempClient({ spki: key.spki, issuer, attestation, now });
  return { cert: certificatePem(certificate), key: p256KeyPem(key) };
}
