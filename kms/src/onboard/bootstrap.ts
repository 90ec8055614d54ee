import { RpcError } from '@dstack-cloud/prpc';
import { assertDomain } from '../config/domain.ts';
import { keyDirectoryState } from '../key-directory/commit.ts';
import type { BootstrapInfo } from '../key-directory/kms-keys.ts';
import { generateSharedKeys } from '../key-directory/new-keys.ts';
import type { OnboardingContext } from './onboarding-context.ts';
import { assertSelfAllowed, storeRoot } from './store-root.ts';

/**
 * Makes the root of a new KMS, once (docs/protocol/kms.md section 6.2). Nothing is on disk before everything is made,
 * and what is there then appears as one step. The caller makes sure that no other bootstrap runs.
 * @throws RpcError `KMS has already been bootstrapped`, `KMS is not allowed to bootstrap: …`
 */
export async function bootstrap(onboarding: OnboardingContext, domain: string): Promise<BootstrapInfo> {
  const { config, fs, log } = onboarding;
  assertDomain(domain);
  if ((await keyDirectoryState(config.core.cert_dir, fs)) !== 'empty') {
    throw new RpcError('KMS has already been bootstrapped', { code: 'INVALID_ARGUMENT' });
  }
  await assertSelfAllowed(onboarding, 'bootstrap');
  const info = await storeRoot(onboarding, generateSharedKeys(), domain);
  log.info({ domain, k256_pubkey: Buffer.from(info.k256Pubkey).toString('hex') }, 'KMS bootstrapped');
  return info;
}
