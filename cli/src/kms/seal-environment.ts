import { fromHex } from '@dstack-cloud/encoding';
import { encryptEnv } from '@dstack-cloud/keys';
import { readKmsRoot } from '../chain/read-kms-root.ts';
import type { GlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import type { Project } from '../project/app-config.ts';
import { readEnvFile } from '../project/env-file.ts';
import { fetchEnvKey } from './env-key.ts';

/**
 * Seals the project's `.env` to the app's key, after the key's signature was checked against the root that the
 * DstackKms contract names (or a signer that the user named). Undefined when there is nothing to seal.
 */
export async function sealEnvironment(
  context: Context,
  config: GlobalConfig,
  project: Project,
  appId: string,
  trustSigner: string | undefined,
): Promise<Uint8Array | undefined> {
  const { vars } = await readEnvFile(project);
  if (vars.length === 0) return undefined;
  const onChain = config.chain === undefined ? undefined : await readKmsRoot(config.chain);
  const key = await fetchEnvKey({
    urls: config.services.kms_urls,
    appId,
    now: context.now(),
    signerFor: (url) => onChain ?? trustedSigner(config, url, trustSigner),
  });
  const source = onChain === undefined ? 'a signer that you trust' : 'the root key registered on chain';
  context.info(`Environment key of ${key.url} is signed by ${source} (0x${key.signer})`);
  return encryptEnv(vars, key.publicKey);
}

function trustedSigner(config: GlobalConfig, url: string, named: string | undefined): string {
  const known = config.trusted_signers;
  const signer = named ?? (Object.hasOwn(known, url) ? known[url] : undefined);
  if (signer === undefined)
    throw new CliError('kms_untrusted', `Nothing says which key ${url} must sign with`, {
      expected: 'chain in the global configuration, or a trusted signer',
      found: 'neither',
      hint: 'Add "chain": {"rpc_url", "kms_contract"} with dstack-cloud config-edit, or pass --trust-signer HEX',
      exitCode: EXIT.refused,
    });
  const hex = signer.replace(/^0x/i, '').toLowerCase();
  try {
    fromHex(hex, { length: 33 });
  } catch (error) {
    throw new CliError('bad_argument', '--trust-signer must be a compressed key, 66 hex digits', {
      cause: error,
    });
  }
  return hex;
}
