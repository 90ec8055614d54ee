import { join } from 'node:path';
import {
  type EnvVar,
  formatEnvFile,
  GUEST_FILES,
  parseEnvDocument,
  validateEnv,
  writeFileAtomic,
} from '@dstack-cloud/app';
import { decryptEnv, KeysError } from '@dstack-cloud/keys';
import type { KeyName } from '@dstack-cloud/ra-tls';
import { GuestError } from '../errors.ts';
import type { Logger } from '../log.ts';

/** An environment key (32 bytes) and which one it is. */
export interface NamedEnvKey {
  readonly name: KeyName;
  readonly key: Uint8Array;
}

/** What the environment step works with. */
export interface EnvironmentInput {
  /** Directory of the host-shared copies. */
  readonly directory: string;
  readonly encryptedEnv: Uint8Array | undefined;
  /** The present key first, then older ones; none when the key provider gives none. */
  readonly envKeys: readonly NamedEnvKey[];
  readonly allowedEnvs: readonly string[];
  readonly log: Logger;
}

/**
 * Decrypts `.encrypted-env` and writes `.decrypted-env` and `.decrypted-env.json`, both 0600, also when they are empty,
 * so that nothing of an earlier boot stays (docs/protocol/host-shared.md section 5.2).
 *
 * @returns the key that opened it; undefined when there is no environment
 * @throws GuestError `env-undecryptable` when there is an environment that cannot be opened or breaks a limit
 */
export async function writeEnvironment(input: EnvironmentInput): Promise<KeyName | undefined> {
  const { vars, name } = open(input);
  const json = Object.fromEntries(vars.map(({ key, value }) => [key, value]));
  await writeFileAtomic(join(input.directory, GUEST_FILES.decryptedEnv), formatEnvFile(vars));
  await writeFileAtomic(join(input.directory, GUEST_FILES.decryptedEnvJson), JSON.stringify(json));
  return name;
}

function open(input: EnvironmentInput): { vars: readonly EnvVar[]; name?: KeyName } {
  const { encryptedEnv, envKeys, allowedEnvs, log } = input;
  if (encryptedEnv === undefined) return { vars: [] };
  if (envKeys.length === 0) {
    // The original boots with an empty environment here; an application without its secrets is worse than none.
    throw new GuestError(
      'env-undecryptable',
      'There is an encrypted environment, but the key provider gives no key for it: use the key provider kms, or remove .env',
    );
  }
  try {
    const { document, name } = decryptWithAny(envKeys, encryptedEnv);
    if (name !== envKeys[0]?.name) {
      log.warn(
        { key_epoch: name.epoch },
        'Environment is sealed to an older key: seal it again before that key is retired',
      );
    }
    const { vars, dropped } = validateEnv(parseEnvDocument(document), allowedEnvs);
    if (dropped.length > 0) log.warn({ dropped }, 'Variables that allowed_envs does not list were dropped');
    return { vars, name };
  } catch (cause) {
    throw new GuestError('env-undecryptable', 'Failed to decrypt the environment', { cause });
  }
}

/** Opened by the first key that fits. @throws KeysError of the first when none does */
function decryptWithAny(
  keys: readonly NamedEnvKey[],
  sealed: Uint8Array,
): { document: Uint8Array; name: KeyName } {
  let first: KeysError | undefined;
  for (const { name, key } of keys) {
    try {
      return { document: decryptEnv(key, sealed), name };
    } catch (error) {
      if (!(error instanceof KeysError)) throw error;
      first ??= error;
    }
  }
  throw first;
}
