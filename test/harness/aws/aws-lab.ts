/** The command line against an emulated AWS, in this process: a project with an enclave image, a home folder. */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as ec2 from '@aws-sdk/client-ec2';
import * as iam from '@aws-sdk/client-iam';
import * as s3 from '@aws-sdk/client-s3';
import { type Host, runCli } from '@dstack-cloud/cli';
import { createNitro } from '@dstack-cloud/tee-simulator';
import type { Outcome } from '../run-command.ts';
import { type EmulatedAws, startAws } from './emulated-aws.ts';
import type { EmulatedHost } from './emulated-host.ts';

export const INSTANCE = 'dstack-app';
const APP_ID = '00112233445566778899aabbccddeeff00112233';

export interface AwsLab {
  readonly aws: EmulatedAws;
  readonly root: string;
  /** Folder of the project. */
  readonly project: string;
  cli(args: readonly string[], host?: Partial<Host>): Promise<Outcome>;
  /** The same, from which success is expected. @returns standard output */
  must(...args: readonly string[]): Promise<string>;
  /** Another application in the enclave image. */
  setApp(text: string): Promise<void>;
  setConfig(nitro: Readonly<Record<string, unknown>>): void;
  state(): Record<string, string>;
  /** The one host that runs. */
  host(): EmulatedHost;
  /** What a killed process of another number would leave free. */
  freeLocks(): void;
  cleanUp(): Promise<void>;
}

export async function awsLab(): Promise<AwsLab> {
  const aws = await startAws();
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'aws-lab-')));
  const project = join(root, 'app');
  const configPath = join(root, 'config.json');
  writeFileSync(configPath, '{}');
  const env = { HOME: root, DSTACK_CLOUD_CONFIG: configPath };
  const ended = new AbortController();
  const lab: AwsLab = {
    ...{ aws, root, project },
    cli: async (args, host = {}) => {
      // The SDK reads the variables of its process.
      Object.assign(process.env, aws.env());
      const out = { stdout: '', stderr: '' };
      const code = await runCli(['-C', project, ...args], {
        ...{ cwd: root, env, interactive: false, terminal: false, now: () => new Date() },
        stdout: (text) => {
          out.stdout += text;
        },
        stderr: (text) => {
          out.stderr += text;
        },
        signal: ended.signal,
        unread: ended.signal,
        ...host,
      });
      return { code, ...out };
    },
    must: async (...args) => {
      const { code, stdout, stderr } = await lab.cli(args);
      if (code !== 0) throw new Error(`${args.join(' ')}: ${stderr}`);
      return stdout;
    },
    setApp: async (text) => {
      writeFileSync(join(project, 'root/bin/app'), text);
      await lab.must('eif', 'build', '--root', 'root', '--blobs', 'blobs', '-o', 'app.eif', '--', '/bin/app');
    },
    setConfig: (values) => {
      const path = join(project, 'app.json');
      const app = JSON.parse(readFileSync(path, 'utf8'));
      writeFileSync(path, JSON.stringify({ ...app, nitro_config: { ...app.nitro_config, ...values } }));
    },
    state: () => JSON.parse(readFileSync(join(project, 'state.json'), 'utf8')),
    host: () => {
      const [id] = [...aws.hosts.keys()].slice(-1);
      return aws.hosts.get(id ?? '')!;
    },
    freeLocks: () => {
      const locks = join(root, '.local/share/dstack-cloud/locks');
      for (const name of readdirSync(locks)) if (name.includes(`.${process.pid}-`)) rmSync(join(locks, name));
    },
    cleanUp: async () => {
      ended.abort();
      await aws.close();
      rmSync(root, { recursive: true, force: true });
    },
  };
  const made = await lab.cli(['-C', root, 'new', 'app', '--platform', 'nitro', '--app-id', APP_ID]);
  if (made.code !== 0) throw new Error(`new: ${made.stderr}`);
  for (const folder of ['root/bin', 'blobs']) mkdirSync(join(project, folder), { recursive: true });
  for (const name of ['bzImage', 'cmdline', 'init', 'nsm.ko'])
    writeFileSync(join(project, 'blobs', name), name);
  writeFileSync(join(project, 'app/root_ca.pem'), createNitro(new Uint8Array(32)).rootPem);
  rmSync(join(project, '.env'), { force: true });
  lab.setConfig({ eif: 'app.eif', kms_url: 'https://kms.example:12001' });
  await lab.setApp('one');
  return lab;
}

/** Everything on AWS that a project could leave behind. */
export async function leftovers({ aws }: AwsLab): Promise<Record<string, string[]>> {
  const config = {
    endpoint: aws.moto.origin,
    region: 'us-east-1',
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
  };
  const [compute, identities, storage] = [
    new ec2.EC2Client(config),
    new iam.IAMClient(config),
    new s3.S3Client({ ...config, forcePathStyle: true }),
  ];
  try {
    const { Reservations = [] } = await compute.send(new ec2.DescribeInstancesCommand({}));
    const { SecurityGroups = [] } = await compute.send(new ec2.DescribeSecurityGroupsCommand({}));
    const { Volumes = [] } = await compute.send(new ec2.DescribeVolumesCommand({}));
    const { Roles = [] } = await identities.send(new iam.ListRolesCommand({}));
    const { InstanceProfiles = [] } = await identities.send(new iam.ListInstanceProfilesCommand({}));
    const { Buckets = [] } = await storage.send(new s3.ListBucketsCommand({}));
    const objects: string[] = [];
    for (const { Name } of Buckets) {
      const { Contents = [] } = await storage.send(new s3.ListObjectsV2Command({ Bucket: Name }));
      objects.push(...Contents.map(({ Key }) => Key?.split('/').at(-1) ?? ''));
    }
    const instances = Reservations.flatMap(({ Instances = [] }) => Instances);
    return {
      instances: instances.map(({ State }) => State?.Name ?? '').filter((state) => state !== 'terminated'),
      groups: SecurityGroups.map(({ GroupName }) => GroupName ?? '').filter((name) => name !== 'default'),
      volumes: Volumes.map(({ VolumeId }) => VolumeId ?? ''),
      roles: Roles.map(({ RoleName }) => RoleName ?? ''),
      profiles: InstanceProfiles.map(({ InstanceProfileName }) => InstanceProfileName ?? ''),
      buckets: Buckets.map(({ Name }) => Name ?? ''),
      objects: objects.sort(),
    };
  } finally {
    for (const client of [compute, identities, storage]) client.destroy();
  }
}
