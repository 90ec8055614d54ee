import type { AppKeysProvider } from '@dstack-cloud/app';
import { parseCertificate } from '@dstack-cloud/attestation';
import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import { decodePem } from '@dstack-cloud/encoding';
import {
  checkCsrConfig,
  createCsr,
  type Dial,
  fetchNonce,
  type KmsClient,
  kmsBaseUrl,
  kmsClient,
  type PeerVerifier,
  tempClientIdentity,
} from '@dstack-cloud/ra-tls';
import { type CertificateSigner, csrConfig, type SignInput } from './certificate-signer.ts';

const MAX_AGE_MS = 10 * 60_000;

/** What the KMS is reached with. */
export interface KmsSignerOptions {
  readonly provider: Extract<AppKeysProvider, { kind: 'kms' }>;
  /** Root of the KMS, PEM, from the stored keys: the only one that is trusted. */
  readonly caCert: string;
  readonly device: EvidenceDevice;
  readonly vmConfig: string;
  /** Whether the KMS must show evidence; it is verified by `verify`, unless it is ignored. */
  readonly evidence: 'required' | 'if-present' | 'ignore';
  readonly verify?: PeerVerifier;
  /** Asks the KMS for a nonce before each evidence: for enclaves, whose documents have a place for one. */
  readonly wantsNonce?: boolean;
  /** Opens the streams to the KMS, e.g. through a proxy. */
  readonly dial?: Dial;
  readonly connectTimeoutMs?: number;
  /** A kept connection is replaced after this time, so that the KMS sees fresh evidence. Default 10 minutes. */
  readonly maxAgeMs?: number;
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
  const maxAgeMs = options.maxAgeMs ?? MAX_AGE_MS;
  let current: Kept | undefined;
  const retire = (kept: Kept): void => {
    if (current === kept) current = undefined;
    kept.isRetired = true;
    if (kept.uses === 0) end(kept);
  };
  const take = (): Kept => {
    if (current !== undefined && performance.now() - current.made > maxAgeMs) retire(current);
    current ??= { made: performance.now(), ready: connect(options), uses: 0, isRetired: false };
    current.uses += 1;
    return current;
  };
  return {
    sign: async (input) => {
      // Refused here first: a quote and a request cost much more.
      checkCsrConfig(csrConfig(input.request), { now: options.now(), issuerNotAfter, forbiddenNames: [] });
      const request = await certificateRequest(input, options);
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
  const { provider, caCert, device, evidence, verify, now } = options;
  const nonce = await nonceFor(options);
  const identity = await tempClientIdentity({
    tempCaCert: provider.tmpCaCert,
    tempCaKey: provider.tmpCaKey,
    attest: (reportData) => device.attest(reportData, nonce && { nonce }),
    now: now(),
  });
  const verifyServer = { evidence, ...(verify && { verify }) };
  return kmsClient(provider.url, { ca: caCert, ...identity, ...wayTo(options), verifyServer });
}

function wayTo({
  dial,
  connectTimeoutMs,
}: KmsSignerOptions): Pick<KmsSignerOptions, 'dial' | 'connectTimeoutMs'> {
  return { ...(dial && { dial }), ...(connectTimeoutMs !== undefined && { connectTimeoutMs }) };
}

/** A nonce is good for one key: each evidence needs one of its own. */
async function nonceFor(options: KmsSignerOptions): Promise<Uint8Array | undefined> {
  if (options.wantsNonce !== true) return undefined;
  return await fetchNonce(kmsBaseUrl(options.provider.url), wayTo(options));
}

/** The KMS verifies the evidence in every request, also when the certificate shall carry none. */
async function certificateRequest(input: SignInput, options: KmsSignerOptions) {
  const attestation = await input.attest(await nonceFor(options));
  const { csr, signature } = createCsr(input.key, csrConfig(input.request), attestation);
  return { apiVersion: 2, csr, signature, vmConfig: options.vmConfig };
}
