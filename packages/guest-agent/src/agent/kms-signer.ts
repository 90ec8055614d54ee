import type { AppKeysProvider } from '@dstack-cloud/app';
import { parseCertificate } from '@dstack-cloud/attestation';
import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import { decodePem } from '@dstack-cloud/encoding';
import {
  checkCsrConfig,
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

/** A connection to the KMS and how many requests are under way on it. */
interface Kept {
  readonly made: number;
  readonly ready: Promise<KmsClient>;
  uses: number;
  isRetired: boolean;
}

/**
 * Key provider kms: SignCert over an attested, kept connection. After an error, and when it is old, the next request gets a
 * new connection with new evidence; what is under way on the old one ends in peace.
 */
export function kmsSigner(options: KmsSignerOptions): CertificateSigner & { close(): void } {
  const { notAfter: issuerNotAfter } = parseCertificate(decodePem(options.caCert, 'CERTIFICATE'));
  let current: Kept | undefined;
  const retire = (kept: Kept): void => {
    if (current === kept) current = undefined;
    kept.isRetired = true;
    if (kept.uses === 0) end(kept);
  };
  const take = (): Kept => {
    if (current !== undefined && performance.now() - current.made > MAX_CLIENT_AGE_MS) retire(current);
    current ??= { made: performance.now(), ready: connect(options), uses: 0, isRetired: false };
    current.uses += 1;
    return current;
  };
  return {
    sign: async (input) => {
      // Refused here first: a quote and a request cost much more.
      checkCsrConfig(csrConfig(input.request), { now: options.now(), issuerNotAfter, forbiddenNames: [] });
      const request = await certificateRequest(input, options.vmConfig);
      const kept = take();
      try {
        return (await (await kept.ready).call.signCert(request)).certificateChain;
      } catch (error) {
        retire(kept);
        throw error;
      } finally {
        kept.uses -= 1;
        if (kept.isRetired && kept.uses === 0) end(kept);
      }
    },
    close: () => {
      if (current === undefined) return;
      end(current);
      current = undefined;
    },
  };
}

function end({ ready }: Kept): void {
  ready.then(
    (client) => client.close(),
    () => undefined,
  );
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

/** The KMS verifies the evidence in every request, also when the certificate shall carry none. */
async function certificateRequest(input: SignInput, vmConfig: string) {
  const attestation = await input.attest();
  const { csr, signature } = createCsr(input.key, csrConfig(input.request), attestation);
  return { apiVersion: 2, csr, signature, vmConfig };
}
