import { type Attestation, stripForCertificate } from '@dstack-cloud/attestation';
import { decodePem } from '@dstack-cloud/encoding';
import { type P256Key, p256KeyFromPem } from '@dstack-cloud/keys';
import { appLeaf, type CsrConfig, certificatePem, checkCsrConfig, issuerOf } from '@dstack-cloud/ra-tls';
import type { LocalEvidence } from './local-evidence.ts';

/** What a leaf certificate shall say (GetTlsKeyArgs). */
export interface LeafRequest {
  readonly subject: string;
  readonly altNames: readonly string[];
  readonly usageRaTls: boolean;
  readonly usageServerAuth: boolean;
  readonly usageClientAuth: boolean;
  readonly withAppInfo: boolean;
  /** Unix seconds. */
  readonly notBefore?: bigint | undefined;
  readonly notAfter?: bigint | undefined;
}

/** One certificate to be made. */
export interface SignInput {
  readonly key: P256Key;
  readonly request: LeafRequest;
  /** Evidence over the key; asked for only when the signer needs it, since a quote is slow. A nonce is for enclaves. */
  readonly attest: (nonce?: Uint8Array) => Promise<Attestation>;
}

/** Makes certificates: locally with the application's own CA, or through the KMS. */
export interface CertificateSigner {
  /** PEM chain, leaf first. */
  sign(input: SignInput): Promise<readonly string[]>;
}

/** The request in the form of a CSR. */
export function csrConfig(request: LeafRequest): CsrConfig {
  const { notBefore, notAfter } = request;
  return {
    subject: request.subject,
    subjectAltNames: request.altNames,
    usageServerAuth: request.usageServerAuth,
    usageClientAuth: request.usageClientAuth,
    extQuote: request.usageRaTls,
    extAppInfo: request.withAppInfo,
    ...(notBefore === undefined ? {} : { notBefore }),
    ...(notAfter === undefined ? {} : { notAfter }),
  };
}

/** Key providers none, local and tpm: the CA in AppKeys signs; the chain ends in `ca_cert` as it is written there. */
export function localSigner(
  caCert: string,
  caKeyPem: string,
  local: LocalEvidence,
  now: () => number,
): CertificateSigner {
  const issuer = issuerOf(decodePem(caCert, 'CERTIFICATE'), p256KeyFromPem(caKeyPem));
  return {
    sign: async ({ key, request, attest }) => {
      const config = csrConfig(request);
      // Before the device is asked for a quote.
      checkCsrConfig(config, { now: now(), issuerNotAfter: issuer.notAfter, forbiddenNames: [] });
      const leaf = appLeaf({
        issuer,
        now: now(),
        config,
        spki: key.spki,
        ...(request.withAppInfo ? { appInfo: (await local.facts()).appInfo } : {}),
        ...(request.usageRaTls ? { attestation: stripForCertificate(await attest()) } : {}),
      });
      return [certificatePem(leaf), caCert];
    },
  };
}
