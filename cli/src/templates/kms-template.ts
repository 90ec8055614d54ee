import { readFileBounded } from '@dstack-cloud/app';
import { rootCertificate } from '@dstack-cloud/attestation';
import { encodePem } from '@dstack-cloud/encoding';
import { isPlainRemote } from '@dstack-cloud/policy';
import type { GlobalConfig } from '../config/global-config.ts';
import { type Context, expandHome } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import type { KmsTemplate } from './kms-compose.ts';

const MAX_ROOT_BYTES = 64 * 1024;
/** By digest, as a registry has it, or by the ID that `docker load` prints: a tag can name another image tomorrow. */
const IMAGE = /^([a-z0-9][a-z0-9._:/-]{0,254}@)?sha256:[0-9a-f]{64}$/;

/** What `new --template kms` fills in, from the global configuration. @throws CliError */
export async function kmsTemplate(
  context: Context,
  config: GlobalConfig,
  { image, platform, keyProvider }: { image: string | undefined; platform: string; keyProvider: string },
): Promise<KmsTemplate> {
  const refuse = (message: string, expected: string, found?: string): never => {
    throw new CliError('bad_argument', message, {
      ...{ expected, exitCode: EXIT.usage },
      ...(found === undefined ? {} : { found }),
    });
  };
  if (platform !== 'gcp') refuse('Template kms is for Google Cloud', '--platform gcp', platform);
  if (keyProvider !== 'tpm')
    refuse(
      'The key service has to find its root keys again without a key service',
      '--key-provider tpm',
      keyProvider,
    );
  if (image === undefined || !IMAGE.test(image))
    refuse(
      'The image of the key service must be named by its digest',
      '--image NAME@sha256:…, as dstack-cloud image container dstack-kms prints it',
      image,
    );
  const { chain } = config;
  if (chain === undefined)
    throw new CliError(
      'bad_config',
      'The key service reads its policy from a chain, and none is configured',
      {
        expected: 'chain.rpc_url and chain.kms_contract',
        hint: 'Set them with dstack-cloud config-edit',
      },
    );
  const rpc = new URL(chain.rpc_url);
  if (rpc.protocol === 'http:' && !isPlainRemote(rpc))
    context.warn(`${chain.rpc_url} is this computer: a machine at Google cannot reach it`);
  const simulatedRoots: { tdx?: string; gcp_tpm?: string } = {};
  for (const name of ['tdx', 'gcp_tpm'] as const) {
    const file = config.attestation.root_ca[name];
    if (file !== undefined) simulatedRoots[name] = await readRoot(expandHome(context, file), name);
  }
  return {
    image: image as string,
    rpcUrl: chain.rpc_url,
    kmsContract: chain.kms_contract,
    chainId: chain.chain_id,
    pccsUrl: config.services.pccs_url,
    simulatedRoots,
  };
}

async function readRoot(path: string, name: string): Promise<string> {
  try {
    return encodePem('CERTIFICATE', rootCertificate(await readFileBounded(path, MAX_ROOT_BYTES)));
  } catch (cause) {
    throw new CliError('bad_config', `Trust root ${path} cannot be read`, {
      cause,
      hint: `Correct attestation.root_ca.${name} with dstack-cloud config-edit`,
    });
  }
}
