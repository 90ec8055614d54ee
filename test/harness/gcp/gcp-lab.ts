/** The command line against an emulated Google Cloud, in this process: a project, an OS image, a home folder. */
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
import { type Host, runCli } from '@dstack-cloud/cli';
import { writeGpt } from '@dstack-cloud/os-image';
import type { Outcome } from '../run-command.ts';
import { type EmulatedGcp, startGcp } from './emulated-gcp.ts';

const OS_IMAGE = 'dstack-cloud-0.6.0';
export const INSTANCE = 'dstack-app';
const SECTOR = 512;

export interface GcpLab {
  readonly gcp: EmulatedGcp;
  readonly root: string;
  /** Folder of the project. */
  readonly project: string;
  readonly images: string;
  /** One command line in the project. */
  cli(args: readonly string[], host?: Partial<Host>): Promise<Outcome>;
  /** The same, from which success is expected. */
  must(...args: readonly string[]): Promise<Outcome>;
  setCompose(image: string): void;
  setConfig(gcp: Readonly<Record<string, unknown>>, app?: Readonly<Record<string, unknown>>): void;
  state(): Record<string, string>;
  /** An image folder whose disk is that large. */
  addImage(name: string, hash: string, bytes?: number): void;
  cleanUp(): Promise<void>;
}

export async function gcpLab(options: { keyProvider?: string } = {}): Promise<GcpLab> {
  const gcp = await startGcp();
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'gcp-lab-')));
  const images = join(root, 'images');
  const project = join(root, 'app');
  const configPath = join(root, 'config.json');
  const env: Record<string, string> = { HOME: root, DSTACK_CLOUD_CONFIG: configPath, ...gcp.env };
  writeFileSync(
    configPath,
    JSON.stringify({ platform: 'gcp', image_search_paths: [images], gcp: { project: gcp.project } }),
  );
  // A machine says at once that it is up, unless a test wants to say something else.
  gcp.compute.power = {
    on: ({ name }) => gcp.compute.write(name, 'Preparing dstack system\nContainer dstack-web-1  Started\n'),
    off: () => undefined,
  };
  const lab: GcpLab = {
    ...{ gcp, root, project, images },
    cli: async (args, host = {}) => {
      const out = { stdout: '', stderr: '' };
      const code = await runCli(['-C', project, ...args], {
        ...{ cwd: root, env, interactive: false, terminal: false, now: () => new Date() },
        stdout: (text) => {
          out.stdout += text;
        },
        stderr: (text) => {
          out.stderr += text;
        },
        signal: new AbortController().signal,
        unread: new AbortController().signal,
        ...host,
      });
      return { code, ...out };
    },
    must: async (...args) => {
      const outcome = await lab.cli(args);
      if (outcome.code !== 0) throw new Error(`${args.join(' ')}: ${outcome.stderr}`);
      return outcome;
    },
    setCompose: (image) =>
      writeFileSync(
        join(project, 'docker-compose.yaml'),
        `services:\n  web:\n    image: ${image}\n    restart: unless-stopped\n    ports:\n      - "80:80"\n`,
      ),
    setConfig: (values, more = {}) => {
      const path = join(project, 'app.json');
      const app = JSON.parse(readFileSync(path, 'utf8'));
      writeFileSync(path, JSON.stringify({ ...app, ...more, gcp_config: { ...app.gcp_config, ...values } }));
    },
    state: () => JSON.parse(readFileSync(join(project, 'state.json'), 'utf8')),
    addImage: (name, hash, bytes = 2 * 1024 * 1024) => {
      const folder = join(images, name);
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, 'disk.raw'), bootDisk(bytes));
      writeFileSync(join(folder, 'auth_hash.txt'), `${hash}\n`);
    },
    cleanUp: async () => {
      await gcp.close();
      rmSync(root, { recursive: true, force: true });
    },
  };
  lab.addImage(OS_IMAGE, 'ab'.repeat(32));
  const made = await lab.cli(['-C', root, 'new', 'app', '--kp', options.keyProvider ?? 'kms', '--no-gw']);
  if (made.code !== 0) throw new Error(`new: ${made.stderr} ${readdirSync(root).join(' ')}`);
  lab.setCompose(`nginx@sha256:${'1'.repeat(64)}`);
  return lab;
}

/** A partition table, and behind it bytes that do not compress. */
function bootDisk(bytes: number): Uint8Array {
  const disk = new Uint8Array(bytes);
  const { primary, backup } = writeGpt({
    diskGuid: 'd5acc000-0000-4000-8000-000000000000',
    sectors: BigInt(bytes / SECTOR),
    partitions: [],
  });
  let seed = 1;
  for (let at = primary.length; at < bytes; at += 1) {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    disk[at] = seed >>> 16;
  }
  disk.set(primary);
  disk.set(backup, bytes - backup.length);
  return disk;
}

/** Everything at Google that a project could leave behind, by name. */
export function leftovers({ gcp }: GcpLab): Record<string, string[]> {
  const { compute, storage } = gcp;
  const names = (all: ReadonlyMap<string, unknown>): string[] => [...all.keys()].sort();
  return {
    instances: names(compute.instances),
    disks: names(compute.disks).map((name) => name.split('/').at(-1) ?? ''),
    images: names(compute.images),
    firewalls: names(compute.firewalls),
    buckets: names(storage.buckets),
    objects: [...storage.buckets.values()].flatMap(({ objects }) => names(objects)),
  };
}
