import { CliError } from '../../errors.ts';
import { GCP_NAME } from '../../project/instance-name.ts';
import { ownerOf } from '../cloud/owner.ts';
import type { Place } from '../platform.ts';

/** `gcp_config` of a project with the global defaults, checked. */
export interface GcpSettings {
  readonly project: string;
  readonly zone: string;
  readonly region: string;
  readonly instance: string;
  readonly machineType: string;
  /** Of the boot image in Google's project; empty for one that is named by its content. */
  readonly bootImage: string;
  readonly bootImageTar: string;
  readonly bootDiskSize: number;
  readonly dataSize: number;
  readonly diskType: string;
  readonly bucket: string;
  readonly network: string;
  readonly subnet: string;
  readonly serviceAccount: string;
  readonly scopes: readonly string[];
  readonly tags: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly privateIp: string;
  readonly externalIp: string;
  readonly noPublicIp: boolean;
  readonly isSpot: boolean;
  readonly nicType: string;
  /** By which everything that this project made is known as its own. */
  readonly owner: string;
}

type Values = Readonly<Record<string, unknown>>;

/** @throws CliError `bad_app_json` naming all that is missing */
export function gcpSettings({ config, project }: Place): GcpSettings {
  const values = merge(config.gcp, project.config.gcp_config);
  const [id, zone, instance] = (['project', 'zone', 'instance_name'] as const).map((name) =>
    text(values, name, name === 'zone' ? 'us-central1-a' : ''),
  ) as [string, string, string];
  const absent = [
    ...(id === '' ? ['project'] : []),
    ...(zone === '' ? ['zone'] : []),
    ...(instance === '' ? ['instance_name'] : []),
  ];
  if (absent.length > 0) throw missing(absent, project.path);
  requireId(id);
  if (!/^[a-z]+-[a-z]+\d+-[a-z]$/.test(zone))
    throw wrong('zone', zone, 'the name of a zone, such as us-central1-a');
  // Firewall rules put the port behind the name, and no name may be longer than 63.
  if (!GCP_NAME.test(instance) || instance.length > MAX_INSTANCE)
    throw wrong(
      'instance_name',
      instance,
      `at most ${MAX_INSTANCE} lower-case letters, digits and -, from a letter on`,
    );
  const bucket = text(values, 'bucket', '').replace(/^gs:\/\//, '') || `${id.replace(/[.:]/g, '-')}-dstack`;
  if (!/^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$/.test(bucket))
    throw wrong('bucket', bucket, 'the name of a bucket, with or without gs://');
  return {
    ...{ project: id, zone, region: zone.replace(/-[a-z]$/, ''), instance, bucket },
    machineType: text(values, 'machine_type', 'c3-standard-4'),
    bootImage: text(values, 'boot_image', ''),
    bootImageTar: text(values, 'boot_image_tar', ''),
    bootDiskSize: number(values, 'boot_disk_size', 10),
    dataSize: number(values, 'data_size', 20),
    diskType: text(values, 'disk_type', 'pd-balanced'),
    network: text(values, 'network', 'default'),
    subnet: text(values, 'subnet', ''),
    serviceAccount: text(values, 'service_account', ''),
    scopes: list(values, 'scopes'),
    tags: list(values, 'tags'),
    labels: (values['labels'] ?? {}) as Record<string, string>,
    privateIp: text(values, 'private_ip', ''),
    externalIp: text(values, 'external_ip', ''),
    noPublicIp: values['no_public_ip'] === true,
    isSpot: values['provisioning_model'] === 'SPOT',
    nicType: text(values, 'nic_type', 'GVNIC'),
    owner: ownerOf(project.config.instance_id_seed ?? ''),
  };
}

/** Longest name of an instance: `-allow-tcp-65535` fits behind it. */
const MAX_INSTANCE = 47;

/** The project's own values win when they say something: text that is not empty, a number, false. */
function merge(global: Values, local: Values): Values {
  const said = Object.entries(local).filter(([, value]) => Boolean(value) || value === false || value === 0);
  return { ...global, ...Object.fromEntries(said) };
}

function text(values: Values, name: string, otherwise: string): string {
  const value = values[name];
  return typeof value === 'string' && value !== '' ? value : otherwise;
}

function number(values: Values, name: string, otherwise: number): number {
  const value = values[name];
  return typeof value === 'number' ? value : otherwise;
}

function list(values: Values, name: string): readonly string[] {
  const value = values[name];
  return Array.isArray(value) ? (value as string[]) : [];
}

function requireId(id: string): string {
  if (/^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$/.test(id)) return id;
  throw wrong('project', id, 'the id of a project, such as my-project-123456');
}

function wrong(name: string, found: string, expected: string): CliError {
  return new CliError('bad_app_json', `gcp_config.${name} cannot be used`, {
    expected,
    found,
    hint: `Set ${name} of gcp_config in app.json, or of gcp with dstack-cloud config-edit`,
  });
}

function missing(names: readonly string[], path: string): CliError {
  const all = names.map((name) => `gcp_config.${name}`).join(', ');
  return new CliError('bad_app_json', `${path} lacks ${all}`, {
    hint: `Set ${names.join(', ')} of gcp_config in app.json, or of gcp with dstack-cloud config-edit`,
  });
}
