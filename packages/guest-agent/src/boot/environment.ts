import { join } from 'node:path';
import {
  type EnvVar,
  formatEnvFile,
  GUEST_FILES,
  parseEnvDocument,
  validateEnv,
  writeFileAtomic,
} from '@dstack-cloud/app';
import { decryptEnv } from '@dstack-cloud/keys';
import { GuestError } from '../errors.ts';
import type { Logger } from '../log.ts';

/** What the environment step works with. */
export interface EnvironmentInput {
  /** Directory of the host-shared copies. */
  readonly directory: string;
  readonly encryptedEnv: Uint8Array | undefined;
  /** 32 bytes, or empty when the key provider gives none. */
  readonly envCryptKey: Uint8Array;
  readonly allowedEnvs: readonly string[];
  readonly log: Logger;
}

/**
 * Decrypts `.encrypted-env` and writes `.decrypted-env` and `.decrypted-env.json`, both 0600, also when they are empty, so
 * that nothing of an earlier boot stays (chapter 30 section 4.7).
 *
 * @throws GuestError `env-undecryptable` when there is an environment that cannot be opened or breaks a limit
 */
export async function writeEnvironment(input: EnvironmentInput): Promise<readonly EnvVar[]> {
  const vars = open(input);
  const json = Object.fromEntries(vars.map(({ key, value }) => [key, value]));
  await writeFileAtomic(join(input.directory, GUEST_FILES.decryptedEnv), formatEnvFile(vars));
  await writeFileAtomic(join(input.directory, GUEST_FILES.decryptedEnvJson), JSON.stringify(json));
  return vars;
}

function open(input: EnvironmentInput): readonly EnvVar[] {
  const { encryptedEnv, envCryptKey, allowedEnvs, log } = input;
  if (encryptedEnv === undefined) return [];
  if (envCryptKey.length === 0) {
    // The original boots with an empty environment here; an application without its secrets is worse than none.
    throw new GuestError(
      'env-undecryptable',
      'There is an encrypted environment, but the key provider gives no key for it: use the key provider kms, or remove .env',
    );
  }
  try {
    const { vars, dropped } = validateEnv(
      parseEnvDocument(decryptEnv(envCryptKey, encryptedEnv)),
      allowedEnvs,
    );
    if (dropped.length > 0) log.warn({ dropped }, 'Variables that allowed_envs does not list were dropped');
    return vars;
  } catch (cause) {
    throw new GuestError('env-undecryptable', 'Failed to decrypt the environment', { cause });
  }
}
