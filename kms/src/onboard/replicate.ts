import type { VerifiedAttestation } from '@dstack-cloud/attestation';
import { decodeAttestation } from '@dstack-cloud/attestation';
import { equalBytes, fromHex, toHex } from '@dstack-cloud/encoding';
import { KeysError, k256PublicKey, p256KeyFromPem } from '@dstack-cloud/keys';
import { PrpcError, type kms as proto, RpcError } from '@dstack-cloud/prpc';
import {
  kmsBaseUrl,
  kmsClient,
  type PeerVerifier,
  type RaTlsCertificate,
  RaTlsError,
  tempClientIdentity,
} from '@dstack-cloud/ra-tls';
import { checkImage } from '../authorize/check-image.ts';
import { assertDomain } from '../config/domain.ts';
import { VerifiedEvidence } from '../evidence/verified-evidence.ts';
import { commitKeyFiles, keyDirectoryState } from '../key-directory/commit.ts';
import type { BootstrapInfo } from '../key-directory/kms-keys.ts';
import { MAX_RETIRED_ROOTS } from '../key-directory/load-history.ts';
import {
  historyFilesOf,
  issueRpcCertificate,
  keyFilesOf,
  keysFor,
  type RootSecrets,
  type SharedKeys,
} from '../key-directory/new-keys.ts';
import { askPolicy } from '../policy/ask-policy.ts';
import { attestOf, type OnboardingContext } from './onboarding-context.ts';

/**
 * Copies the root of another KMS (docs/protocol/kms.md section 6.3). The source is known by its evidence and by what
 * the policy source says of it; every later connection is bound to the very key that was verified first.
 * @returns the compressed k256 root public key
 * @throws RpcError
 */
export async function replicate(
  onboarding: OnboardingContext,
  sourceUrl: string,
  domain: string,
): Promise<Uint8Array> {
  const { config, fs, now, log } = onboarding;
  const directory = config.core.cert_dir;
  assertDomain(domain);
  assertSourceUrl(sourceUrl);
  if ((await keyDirectoryState(directory, fs)) !== 'empty') {
    throw new RpcError('KMS has already been onboarded', { code: 'INVALID_ARGUMENT' });
  }
  const { shared, bootstrapInfo } = await fetchRoots(onboarding, kmsBaseUrl(sourceUrl)).catch(
    (error: unknown) => {
      throw publicError(error);
    },
  );
  const keys = keysFor(shared, domain, Math.floor(now()), bootstrapInfo);
  const certificate = await issueRpcCertificate(keys, Math.floor(now()), attestOf(onboarding));
  await commitKeyFiles(directory, keyFilesOf(keys, certificate), fs, historyFilesOf(keys));
  log.info({ domain, k256_pubkey: Buffer.from(keys.k256Pubkey).toString('hex') }, 'KMS onboarded');
  return keys.k256Pubkey;
}

const MAX_URL = 2048;

function assertSourceUrl(sourceUrl: string): void {
  const invalid = (problem: string): RpcError =>
    new RpcError(`Failed to onboard: source_url ${problem}`, { code: 'INVALID_ARGUMENT' });
  if (sourceUrl.length > MAX_URL) throw invalid(`is longer than ${MAX_URL} characters`);
  if (!URL.canParse(sourceUrl)) throw invalid('is not a URL');
  if (new URL(sourceUrl).protocol !== 'https:') throw invalid('must begin with https://');
  // Method names are appended to it.
  if (/[?#]/.test(sourceUrl)) throw invalid('must end with the path of the KMS, without query');
}

type Roots = { shared: SharedKeys; bootstrapInfo: BootstrapInfo | undefined };

async function fetchRoots(onboarding: OnboardingContext, url: string): Promise<Roots> {
  const { agent, evidence, now } = onboarding;
  let sourceSpki: Uint8Array | undefined;
  const verify: PeerVerifier = async (peer) => (await evidence.readAndVerify(() => peer)).verified();
  const accept = async (certificate: RaTlsCertificate, verified?: VerifiedAttestation): Promise<void> => {
    if (verified === undefined) throw new RpcError('Source KMS certificate does not contain attestation');
    await assertSourceAllowed(onboarding, verified);
    // The two calls may open two connections: the second one may not lead elsewhere.
    if (sourceSpki !== undefined && !equalBytes(sourceSpki, certificate.spki)) {
      throw new RpcError('Source KMS answers with different keys on different connections', {
        code: 'UNAUTHORIZED',
      });
    }
    sourceSpki = certificate.spki;
  };
  const first = kmsClient(url, {
    verifyServer: { evidence: 'required', verify, onServer: accept },
  });
  const { tempCa, meta } = await Promise.all([first.call.getTempCaCert(), first.call.getMeta()])
    .then(([tempCaAnswer, metaAnswer]) => ({ tempCa: tempCaAnswer, meta: metaAnswer }))
    .finally(() => first.close());
  if (sourceSpki === undefined) throw new RpcError('Source KMS certificate does not contain attestation');
  const identity = await tempClientIdentity({
    tempCaCert: tempCa.tempCaCert,
    tempCaKey: tempCa.tempCaKey,
    attest: async (reportData) => decodeAttestation(await agent.attest(reportData)),
    now: Math.floor(now()),
  });
  const second = kmsClient(url, {
    ...identity,
    verifyServer: { evidence: 'required', verify, pinnedSpki: sourceSpki },
  });
  try {
    const answer = await second.call.getKmsKey({ vmConfig: await agent.vmConfig(), acceptHistory: true });
    const shared = readKeys(onboarding, answer);
    return { shared, bootstrapInfo: matchingInfo(shared, meta) };
  } finally {
    second.close();
  }
}

/** Asks our own policy source about the KMS that we are about to believe. */
async function assertSourceAllowed(
  onboarding: OnboardingContext,
  verified: VerifiedAttestation,
): Promise<void> {
  // Certificates of v0.6 carry no configuration: the image is then the one that we run ourselves.
  const config = verified.config.trim() === '' ? await onboarding.agent.vmConfig() : '';
  const configured = new VerifiedEvidence(verified).withConfig(config);
  const info = configured.bootInfo(false);
  const decision = await askPolicy(onboarding, 'kms', info);
  if (!decision.allowed) {
    throw new RpcError(`Source KMS is not allowed for onboarding: boot denied: ${decision.reason}`, {
      code: 'UNAUTHORIZED',
    });
  }
  // What the policy allowed is the image that the source names: that it is the one it runs is for us to see.
  await checkImage(configured, onboarding);
}

function readKeys({ config }: OnboardingContext, answer: proto.KmsKeyResponse): SharedKeys {
  // The original gives the active root alone, whatever it is asked.
  if (answer.keys.length === 0 || answer.keys.length > 1 + MAX_RETIRED_ROOTS) {
    throw new RpcError('Invalid keys');
  }
  try {
    const [active, ...history] = answer.keys.map(secretsOf);
    const shared = { ...active!, tempCa: p256KeyFromPem(answer.tempCaKey), history };
    assertDistinct([active!, ...history]);
    const { expected_k256_pubkey: k256, expected_ca_pubkey: ca } = config.core.onboard;
    assertExpected('k256 public key', k256, k256PublicKey(shared.k256));
    assertExpected('CA public key', ca, shared.ca.spki);
    return shared;
  } catch (error) {
    if (error instanceof KeysError) throw new RpcError('Invalid keys', { cause: error });
    throw error;
  }
}

function secretsOf({ caKey, k256Key }: proto.KmsKeys): RootSecrets {
  return { ca: p256KeyFromPem(caKey), k256: k256Key };
}

/** No key may be of two roots: each retired one stands for itself. */
function assertDistinct(roots: readonly RootSecrets[]): void {
  for (const list of [roots.map(({ ca }) => ca.spki), roots.map(({ k256 }) => k256PublicKey(k256))]) {
    if (new Set(list.map((key) => toHex(key))).size !== roots.length) throw new RpcError('Invalid keys');
  }
}

function assertExpected(name: string, expected: string | undefined, found: Uint8Array): void {
  if (expected === undefined || equalBytes(fromHex(expected, { prefix: 'allow' }), found)) return;
  throw new RpcError(`The source has another ${name} than core.onboard expects`, { code: 'UNAUTHORIZED' });
}

/** The source's bootstrap record, when it is about these keys. */
function matchingInfo(shared: SharedKeys, meta: proto.GetMetaResponse): BootstrapInfo | undefined {
  const info = meta.bootstrapInfo;
  if (info === undefined) return undefined;
  const matches =
    equalBytes(info.caPubkey, shared.ca.spki) && equalBytes(info.k256Pubkey, k256PublicKey(shared.k256));
  return matches
    ? { caPubkey: info.caPubkey, k256Pubkey: info.k256Pubkey, attestation: info.attestation }
    : undefined;
}

/** One text for all that can go wrong with a source, as operators know it. */
function publicError(error: unknown): unknown {
  const inner = error instanceof PrpcError && error.cause instanceof Error ? error.cause : error;
  if (inner instanceof RpcError) {
    // The status is what the source answered to us, not what we answer.
    const { code } = inner;
    const text = `Failed to onboard: ${inner.message}`;
    return new RpcError(text, { ...(code !== undefined && { code }), cause: inner });
  }
  if (inner instanceof RaTlsError) {
    const text =
      inner.code === 'no-attestation' ? 'Source KMS certificate does not contain attestation' : inner.message;
    const code = inner.code === 'connection' ? 'UNAVAILABLE' : 'UNAUTHORIZED';
    return new RpcError(`Failed to onboard: ${text}`, { code, cause: inner });
  }
  if (error instanceof PrpcError) {
    return new RpcError(`Failed to onboard: ${error.message}`, { code: 'UNAVAILABLE', cause: error });
  }
  return error;
}
