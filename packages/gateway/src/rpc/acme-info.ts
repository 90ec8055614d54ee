import { create, encodeJson, gateway, type MessageInitShape } from '@dstack-cloud/prpc';
import type { CertificateKeeper } from '../certificates/certificate-keeper.ts';

type AcmeInfoResponse = MessageInitShape<typeof gateway.AcmeInfoResponseSchema>;

/** The answer of AcmeInfo (docs/protocol/gateway.md section 7.3). */
export async function acmeInfo(domain: string, keeper: CertificateKeeper): Promise<AcmeInfoResponse> {
  const { accountUri, accountEvidence, keys, activeCertificate } = await keeper.info();
  return {
    accountUri,
    histKeys: keys.map(({ spki }) => spki).sort(Buffer.compare),
    quotedHistKeys: keys.map(({ spki, evidence }) => ({
      publicKey: spki,
      quote: evidence?.quote ?? '',
      attestation: evidence?.attestation ?? '',
    })),
    accountQuote: accountEvidence?.quote ?? '',
    accountAttestation: accountEvidence?.attestation ?? '',
    activeCert: activeCertificate,
    baseDomain: domain,
  };
}

/** The same as the page `/.dstack/acme-info` shows it. */
export function acmeInfoJson(info: AcmeInfoResponse): string {
  const message = create(gateway.AcmeInfoResponseSchema, info);
  return encodeJson(gateway.AcmeInfoResponseSchema, message);
}
