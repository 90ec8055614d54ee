import { randomBytes } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { parseImageReference } from '@dstack-cloud/app/image-archive';
import { toHex } from '@dstack-cloud/encoding';
import { isThere } from '@dstack-cloud/files';
import { isImageName, isMachineName } from '@dstack-cloud/vmm';
import { type GlobalConfig, loadGlobalConfig } from '../config/global-config.ts';
import { parseJsonObject } from '../config/json-comments.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { parseAppConfig } from '../project/app-schema.ts';
import { instanceName } from '../project/instance-name.ts';
import { type ProjectFile, projectFiles, type TemplateOptions } from '../templates/project-files.ts';

/** What a DNS label takes; also what a later step makes a name of. */
const MAX_NAME = 63;

/** `new NAME`: a project folder that deploys as it is. */
export async function run(
  context: Context,
  [name]: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const config = await loadGlobalConfig(context);
  const directory = resolve(context.directory, name as string);
  const plain = templateOptions(basename(directory), config.platform, flags);
  const options = await withTemplate(context, config, plain, flags);
  const files = projectFiles(options);
  checkNames(options, files);
  if (isThere(directory))
    throw new CliError('exists', `Directory '${name}' already exists.`, { hint: 'Choose another name' });
  if (!isThere(dirname(directory)))
    throw new CliError('bad_argument', `${dirname(directory)} does not exist`, { hint: 'Make it first' });
  await mkdir(directory, { mode: 0o755 });
  try {
    if (options.platform !== 'nitro') await mkdir(join(directory, 'shared'), { mode: 0o700 });
    for (const file of files) {
      await mkdir(dirname(join(directory, file.name)), { recursive: true });
      await writeFile(join(directory, file.name), file.text, { mode: file.mode, flag: 'wx' });
    }
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
  const shown = relative(context.cwd, directory) || '.';
  context.info(`Initialized project in ${shown}`);
  context.info('Created files:');
  const made = files.map((file) => file.name);
  for (const file of options.platform === 'nitro' ? made : [...made, 'shared/']) context.info(`  ${file}`);
  context.info('Edit the configuration files to customize your deployment.');
  context.print(`Created new project: ${name}`);
  context.print(`Project directory: ${directory}`);
  if (options.platform === 'nitro')
    context.info(
      `Next: put the root of your KMS into app/root_ca.pem (cd ${shown} && dstack-cloud measure --fetch-root-ca), then dstack-cloud deploy --local`,
    );
  else {
    const check = options.platform === 'local' ? '' : 'dstack-cloud doctor && ';
    if (options.vm !== undefined)
      context.info(
        'The container image of docker-compose.yaml reaches the machine by local_config.images of app.json (an archive of docker save, or an oci-archive), or from a registry that the machine reaches.',
      );
    context.info(`Next: cd ${shown} && ${check}dstack-cloud deploy`);
  }
  context.result({ name, directory, files: made, app_id: options.appId });
  return undefined;
}

/** What `--template` and `--driver` add. */
async function withTemplate(
  context: Context,
  config: GlobalConfig,
  options: TemplateOptions,
  flags: Readonly<Record<string, unknown>>,
): Promise<TemplateOptions> {
  const image = flags['image'] as string | undefined;
  if (flags['template'] === 'kms') {
    const { kmsTemplate } = await import('../templates/kms-template.ts');
    return { ...options, kms: await kmsTemplate(context, config, { ...options, image }) };
  }
  const driver = flags['driver'] as GlobalConfig['local']['driver'] | undefined;
  if (driver !== undefined && options.platform !== 'local')
    throw new CliError('bad_argument', '--driver is for platform local', { exitCode: EXIT.usage });
  if (options.platform === 'local' && (driver ?? config.local.driver) === 'vm') {
    if (image !== undefined && parseImageReference(image) === undefined)
      throw new CliError('bad_argument', '--image names no container image', {
        expected: 'NAME@sha256:…, sha256:… (an image ID) or NAME:TAG',
        ...{ found: image, exitCode: EXIT.usage },
      });
    return { ...options, vm: { image } };
  }
  if (image !== undefined)
    throw new CliError('bad_argument', '--image is for --template kms and for --driver vm', {
      exitCode: EXIT.usage,
    });
  return { ...options, isProcess: driver === 'process' };
}

function templateOptions(
  name: string,
  configured: string | undefined,
  flags: Readonly<Record<string, unknown>>,
): TemplateOptions {
  const text = (key: string): string | undefined =>
    typeof flags[key] === 'string' ? (flags[key] as string) : undefined;
  const platform = text('platform') ?? configured ?? 'local';
  if (!['local', 'gcp', 'nitro', 'aws'].includes(platform))
    throw new CliError('bad_argument', `Unknown platform ${platform}`, {
      expected: 'local, gcp or nitro',
      exitCode: 2,
    });
  const appId = (text('appId') ?? toHex(randomBytes(20))).replace(/^0x/, '').toLowerCase();
  if (!/^[0-9a-f]{40}$/.test(appId))
    throw new CliError('bad_argument', 'app_id must be exactly 40 hexadecimal characters', { exitCode: 2 });
  const keyProvider = text('keyProvider') ?? (text('template') === 'kms' ? 'tpm' : 'kms');
  return {
    name,
    platform: (platform === 'aws' ? 'nitro' : platform) as TemplateOptions['platform'],
    osImage: text('osImage'),
    appId,
    seed: toHex(randomBytes(20)),
    keyProvider,
    gateway: keyProvider === 'kms' && flags['gatewayEnabled'] !== false,
    storageFs: text('storageFs') ?? 'ext4',
    secureTime: flags['secureTime'] === true,
    noInstanceId: flags['instanceId'] === false || keyProvider !== 'kms',
    instanceName: text('instanceName') ?? instanceName(name),
    project: text('project') ?? '',
    zone: text('zone') ?? '',
    region: text('region') ?? '',
    machineType: text('machineType'),
    dataSize: dataSize(text('dataSize')),
  };
}

/** Refuses what a later step would: names that no machine, image, DNS label or `app.json` takes. */
function checkNames(options: TemplateOptions, files: readonly ProjectFile[]): void {
  const { name, instanceName: instance, osImage, platform } = options;
  const refuse = (what: string, found: string, expected: string): never => {
    throw new CliError('bad_argument', `${what} cannot be used`, { expected, found, exitCode: EXIT.usage });
  };
  if (!/^[^\p{C}\p{Zl}\p{Zp}]+$/u.test(name) || name.length > MAX_NAME)
    refuse('The name of the project', name, `at most ${MAX_NAME} characters, all of them visible`);
  if (platform === 'local' && !isMachineName(instance))
    refuse('The instance name', instance, 'at most 128 letters, digits, blanks and _.@~!$^()-');
  if (platform !== 'local' && !/^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/.test(instance))
    refuse('The instance name', instance, 'at most 63 lower-case letters, digits and -, from a letter on');
  if (osImage !== undefined && !isImageName(osImage))
    refuse('The name of the OS image', osImage, 'at most 64 letters, digits and _.-');
  const path = 'app.json';
  const app = files.find((file) => file.name === path)?.text ?? '';
  parseAppConfig(parseJsonObject(app, path, 'bad_app_json'), path);
}

function dataSize(text: string | undefined): number {
  const size = Number(text ?? 20);
  if (Number.isInteger(size) && size >= 1 && size <= 65_536) return size;
  throw new CliError('bad_argument', '--data-size must be a whole number of GB', {
    found: text ?? '',
    exitCode: 2,
  });
}
