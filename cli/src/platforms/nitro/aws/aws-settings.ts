import { CliError } from '../../../errors.ts';
import { instanceName } from '../../../project/instance-name.ts';
import type { NitroConfig } from '../../../project/nitro-config.ts';
import { ownerOf } from '../../cloud/owner.ts';
import type { Place } from '../../platform.ts';

/** `nitro_config` of a project on AWS with the global defaults, checked. */
export interface AwsSettings {
  readonly nitro: NitroConfig;
  readonly region: string;
  /** Name of the parent instance and of what it needs. */
  readonly instance: string;
  /** By which everything that this project made is known as its own. */
  readonly owner: string;
  /** Bucket of the enclave image. */
  readonly bucket: string;
  /** Whether the bucket is the project's own: made and deleted with it. */
  readonly ownsBucket: boolean;
}

const DEFAULT_REGION = 'us-east-1';
/** The role and the instance profile have this name with `-` and eight digits behind it, of at most 64 characters. */
const MAX_INSTANCE = 55;

/** @throws CliError `bad_app_json` */
export function awsSettings({ context, config, project }: Place): AwsSettings {
  const { nitro_config: nitro, name, instance_id_seed: seed } = project.config;
  if (seed === undefined || seed === '')
    throw new CliError(
      'bad_app_json',
      `${project.path} has no instance_id_seed, which marks what is made for it`,
      {
        hint: 'Add "instance_id_seed": 40 random hex digits (dstack-cloud new writes one)',
      },
    );
  const instance = nitro.instance_name || instanceName(name).slice(0, MAX_INSTANCE).replace(/-+$/, '');
  if (!/^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$/.test(instance) || instance.length > MAX_INSTANCE)
    throw wrong('instance_name', instance, `at most ${MAX_INSTANCE} letters, digits and -, from a letter on`);
  const region = regionOf(context.env, config.nitro, nitro.region);
  const owner = ownerOf(seed);
  if (nitro.bucket !== '' && !/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(nitro.bucket))
    throw wrong('bucket', nitro.bucket, 'the name of a bucket of yours');
  return {
    ...{ nitro, region, instance, owner },
    bucket: nitro.bucket || `dstack-${owner}`,
    ownsBucket: nitro.bucket === '',
  };
}

/** The project's region, else that of the configuration, else that of AWS's variables. @throws CliError `bad_app_json` */
export function regionOf(
  env: NodeJS.ProcessEnv,
  global: Readonly<Record<string, unknown>>,
  own: string,
): string {
  const named = global['region'];
  const region =
    own ||
    (typeof named === 'string' ? named : '') ||
    env['AWS_REGION'] ||
    env['AWS_DEFAULT_REGION'] ||
    DEFAULT_REGION;
  if (/^[a-z]{2}(-[a-z]+)+-\d$/.test(region)) return region;
  throw wrong('region', region, 'the name of a region, such as us-east-1');
}

function wrong(name: string, found: string, expected: string): CliError {
  return new CliError('bad_app_json', `nitro_config.${name} cannot be used`, {
    ...{ expected, found },
    hint: `Set ${name} of nitro_config in app.json, or of nitro with dstack-cloud config-edit`,
  });
}
