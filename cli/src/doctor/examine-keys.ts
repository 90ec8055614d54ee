import { CliError, messageOf } from '../errors.ts';
import { postKms } from '../kms/post-kms.ts';
import type { Place } from '../platforms/platform.ts';
import { prepareProject } from '../platforms/prepare-project.ts';
import type { Examination } from './examination.ts';

/** The key service answers, and the contracts would let it release keys. */
export async function examineKeys(
  { config, context, project }: Place,
  { look, open }: Examination,
): Promise<void> {
  if (project.config.key_provider !== 'kms')
    return open('KMS', `key_provider is ${project.config.key_provider}: none is asked`);
  await look('KMS', async () => {
    const [url] = config.services.kms_urls;
    if (url === undefined)
      throw new CliError('bad_config', 'no KMS is configured', {
        hint: 'Set services.kms_urls with dstack-cloud config-edit',
      });
    // Who answers proves nothing here: a deploy verifies what it takes from the service.
    const meta = await postKms(url, 'GetMeta', {}).catch((cause: unknown) => {
      throw new CliError('kms_unreachable', `${url}: ${messageOf(cause)}`, {
        hint: 'Check that it runs and that services.kms_urls is right',
        cause,
      });
    });
    return `${url} answers${(meta as { is_dev?: unknown }).is_dev === true ? ' (development)' : ''}`;
  });
  const { chain } = config;
  if (chain === undefined)
    return open('chain', 'not configured: nothing says here whether the KMS will release keys');
  await look('chain', async () => {
    const { checkPolicy } = await import('../chain/check-policy.ts');
    const prepared = await prepareProject(context, config, project);
    await checkPolicy(chain, prepared);
    return `allows compose hash ${prepared.composeHash}`;
  });
}
