import type { KmsConfig } from '../config/kms-config.ts';
import { KmsError } from '../errors.ts';
import { recoverKeyDirectory } from '../key-directory/commit.ts';
import { commitRotation } from '../key-directory/commit-rotation.ts';
import type { KmsKeys } from '../key-directory/kms-keys.ts';
import { loadKeys } from '../key-directory/load-keys.ts';
import { makeRotation } from '../key-directory/make-rotation.ts';
import { generateRoot } from '../key-directory/new-keys.ts';
import { attestOf } from './onboarding-context.ts';
import { assertSelfAllowed, type RootKeeper } from './store-root.ts';

/** What a rotation ended with. */
export type Rotated = {
  readonly keys: KmsKeys;
  /** An earlier rotation had been interrupted; it was finished, and no other was made. */
  readonly resumed: boolean;
};

/**
 * Gives a KMS a new root and retires the old one (docs/protocol/kms.md section 9.3). The policy is asked about this
 * machine, and evidence is made over the new keys, as at Bootstrap. The caller holds the lock of the key directory.
 * @param retire id of the root that shall retire; another active root is an error, so that a command that is given
 *   again does not rotate twice
 * @throws RpcError `KMS is not allowed to rotate the root: …`, KmsError; the old root stays active then
 */
export async function rotateRoot(keeper: RootKeeper, retire?: string): Promise<Rotated> {
  const { config, now, fs } = keeper;
  const directory = config.core.cert_dir;
  const recovery = await recoverKeyDirectory(directory, fs);
  const before = await loadKeys(directory, loadOptions(config, now()));
  if (recovery === 'rotated') return { keys: before, resumed: true };
  if (retire !== undefined && retire.toLowerCase().replace(/^0x/, '') !== before.id) {
    throw new KmsError('keys-exist', `The active root is ${before.id}; nothing was changed`);
  }
  await assertSelfAllowed(keeper, 'rotate the root');
  const { rotation } = await makeRotation(before, generateRoot(), Math.floor(now()), attestOf(keeper));
  await commitRotation(directory, rotation, fs);
  return { keys: await loadKeys(directory, loadOptions(config, now())), resumed: false };
}

function loadOptions({ core }: KmsConfig, now: number): { now: number; domain?: string } {
  const domain = core.onboard.auto_bootstrap_domain;
  return { now, ...(domain === '' ? {} : { domain }) };
}
