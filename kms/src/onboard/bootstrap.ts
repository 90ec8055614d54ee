import { bootstrapReportData, k256PublicKey } from '@dstack-cloud/keys';
import { RpcError } from '@dstack-cloud/prpc';
import { commitKeyFiles, keyDirectoryState } from '../key-directory/commit.ts';
import type { BootstrapInfo } from '../key-directory/kms-keys.ts';
import { generateSharedKeys, issueRpcCertificate, keyFilesOf, keysFor } from '../key-directory/new-keys.ts';
import { assertDomain } from './domain.ts';
import { attestOf, type Onboarding } from './onboarding.ts';

/**
 * Makes the root of a new KMS, once (chapter 10 section 6.2). Nothing is on disk before everything is made, and what
 * is there then appears as one step. The caller makes sure that no other bootstrap runs.
 * @throws RpcError `KMS has already been bootstrapped`, `KMS is not allowed to bootstrap: …`
 */
export async function bootstrap(onboarding: Onboarding, domain: string): Promise<BootstrapInfo> {
  const { config, now, fs, log } = onboarding;
  const directory = config.core.cert_dir;
  assertDomain(domain);
  if ((await keyDirectoryState(directory, fs)) !== 'empty') {
    throw new RpcError('KMS has already been bootstrapped', { code: 'INVALID_ARGUMENT' });
  }
  await assertAllowed(onboarding);
  const shared = generateSharedKeys();
  const attest = attestOf(onboarding);
  const k256Pubkey = k256PublicKey(shared.k256);
  const reportData = bootstrapReportData(shared.ca.spki, k256Pubkey);
  const attestation = attest === undefined ? new Uint8Array() : await attest(reportData);
  const info = { caPubkey: shared.ca.spki, k256Pubkey, attestation };
  const keys = keysFor(shared, domain, Math.floor(now()), info);
  const certificate = await issueRpcCertificate(keys, Math.floor(now()), attest);
  await commitKeyFiles(directory, keyFilesOf(keys, certificate), fs);
  log.info({ domain, k256_pubkey: Buffer.from(k256Pubkey).toString('hex') }, 'KMS bootstrapped');
  return info;
}

/** The policy source must know this KMS before it has keys. */
async function assertAllowed({ config, self }: Onboarding): Promise<void> {
  if (!config.core.enforce_self_authorization) return;
  const decision = await self.decide().catch((error: unknown) => {
    if (!(error instanceof RpcError)) throw error;
    throw new RpcError(`KMS is not allowed to bootstrap: failed to call KMS auth check: ${error.message}`, {
      code: 'UNAVAILABLE',
      cause: error,
    });
  });
  if (decision.allowed) return;
  throw new RpcError(`KMS is not allowed to bootstrap: boot denied: ${decision.reason}`, {
    code: 'UNAUTHORIZED',
  });
}
