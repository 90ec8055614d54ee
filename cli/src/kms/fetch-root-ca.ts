import { createHash } from 'node:crypto';
import { pinnedRootsOf } from '@dstack-cloud/ra-tls';
import type { GlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { enclaveKms } from '../enclave/enclave-inputs.ts';
import { CliError } from '../errors.ts';
import type { Project } from '../project/app-config.ts';
import { enclaveFilePath } from '../project/project-path.ts';
import { replaceFile } from '../project/replace-file.ts';
import { postKms } from './post-kms.ts';

const MAX_PEM = 64 * 1024;

/**
 * Writes the root of the KMS to the file that the image pins it from. Nobody has said whether it is the right one: its
 * SHA-256 is printed, to be compared with what the operator of the KMS says.
 *
 * @throws CliError `kms_unreachable`, `kms_untrusted`
 */
export async function fetchRootCa(context: Context, config: GlobalConfig, project: Project): Promise<void> {
  const kms = enclaveKms(config, project);
  if (kms === undefined)
    throw new CliError(
      'bad_app_json',
      `This project takes no keys from a KMS (key_provider is ${project.config.key_provider})`,
    );
  const path = await enclaveFilePath(project, 'root_ca');
  const answer = await postKms(kms.kmsUrl, 'GetTempCaCert', {}).catch((cause: unknown) => {
    throw new CliError(
      'kms_unreachable',
      `${kms.kmsUrl} gives no root certificate: ${(cause as Error).message}`,
      {
        cause,
        hint: 'Check nitro_config.kms_url, or services.kms_urls (dstack-cloud config-edit)',
      },
    );
  });
  const pem = (answer as { ca_cert?: unknown } | null)?.ca_cert;
  const found =
    typeof pem === 'string' && pem.length <= MAX_PEM ? pinnedRootsOf(pem) : { problem: 'is missing' };
  if (typeof pem !== 'string' || 'problem' in found)
    throw new CliError('kms_untrusted', `ca_cert in the answer of ${kms.kmsUrl} cannot be pinned`, {
      found: 'problem' in found ? `it ${found.problem}` : 'no text',
    });
  await replaceFile(path, pem, 0o644);
  for (const spki of found.spkis)
    context.info(
      `Root key of the KMS, SHA-256 of its SPKI: ${createHash('sha256').update(spki).digest('hex')}`,
    );
  context.info(`Wrote ${path}: compare that hash with what the operator of the KMS says before you deploy`);
}
