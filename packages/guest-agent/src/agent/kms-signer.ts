import type { AppKeysProvider } from '@dstack-cloud/app';
import type { EvidenceDevice } from '@dstack-cloud/attestation/obtain';
import {
  createCsr,
  type KmsClient,
  kmsClient,
  type PeerVerifier,
  tempClientIdentity,
} from '@dstack-cloud/ra-tls';
import { type CertificateSigner, csrConfig, type SignInput } from './certificate-signer.ts';

/** A kept client is replaced after this time, so that the KMS sees fresh evidence, milliseconds. */
const MAX_CLIENT_AGE_MS = 10 * 60_000;

/** What the KMS is reached with. */
export interface KmsSignerOptions {
  readonly provider: Extract<AppKeysProvider, { kind: 'kms' }>;
  /** Root of the KMS, PEM, from the stored keys: the only one that is trusted. */
  readonly caCert: string;
  readonly device: EvidenceDevice;
  readonly vmConfig: string;
  readonly verify: PeerVerifier;
  readonly requireAttestation: boolean;
  /** Unix seconds. */
  readonly now: () => number;
}

/** Key provider kms: SignCert over an attested, kept connection (chapter 30 section 1.6). */
export function kmsSigner(options: KmsSignerOptions): CertificateSigner & { close(): void } {
  let client: { readonly made: number; readonly ready: Promise<KmsClient> } | undefined;
  const current = (): Promise<KmsClient> => {
    if (client === undefined || performance.now() - client.made > MAX_CLIENT_AGE_MS) {
      drop();
      client = { made: performance.now(), ready: connect(options) };
    }
    return client.ready;
  };
  const drop = (): void => {
    client?.ready.then(
      (old) => old.close(),
      () => undefined,
    );
    client = undefined;
  };
  return {
    sign: async (input) => {
      const request = await certificateRequest(input, options.vmConfig);
      try {
        return (await (await current()).call.signCert(request)).certificateChain;
      } catch (error) {
        // The next call starts with a new connection and new evidence.
        drop();
        throw error;
      }
    },
    close: drop,
  };
}

async function connect(options: KmsSignerOptions): Promise<KmsClient> {
  const { provider, caCert, device, verify, now } = options;
  const identity = await tempClientIdentity({
    tempCaCert: provider.tmpCaCert,
    tempCaKey: provider.tmpCaKey,
    attest: (reportData) => device.attest(reportData),
    now: now(),
  });
  const evidence = options.requireAttestation ? 'required' : 'if-present';
  return kmsClient(provider.url, { ca: caCert, ...identity, verifyServer: { evidence, verify } });
}

/** The KMS judges the evidence in every request, also when the certificate shall carry none. */
async function certificateRequest(input: SignInput, vmConfig: string) {
  const attestation = await input.attest();
  const { csr, signature } = createCsr(input.key, csrConfig(input.request), attestation);
  return { apiVersion: 2, csr, signature, vmConfig };
}
