/**
 * docs/kms-on-gcp.md, block by block, on an emulated Google Cloud that boots the disks it is given: a key service in a machine of
 * its own makes root keys, keeps them over a restart, and an application in a second machine gets its keys; a second
 * key service gets a copy.
 */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer as createWebServer, type Server as WebServer } from 'node:http';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { VM_DOMAIN } from '@dstack-cloud/scripts/demo/kms';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { LAB_IMAGE, type MachineLab, startLabWithoutKms } from '../harness/gcp/machine-lab.ts';
import { type Outcome, processesIn, repository, runCommand } from '../harness/run-command.ts';
import { shellBlocks } from '../harness/shell-blocks.ts';
import { devImage } from '../harness/vm/dev-image.ts';
import { missingForVm } from '../harness/vm/machine.ts';

/** Each a boot or two, minutes long on a loaded machine without KVM. */
vi.setConfig({ testTimeout: 3_000_000, hookTimeout: 900_000 });
const BLOCK_MS = 840_000;
const PAGE_MS = 600_000;

const SECRET = 'what-only-the-application-may-read';
/** Shows what its environment held, once it was decrypted by a key of the key service. */
const program = `
const shown = require("node:crypto").createHash("sha256").update(process.env.SECRET).digest("hex");
require("node:http").createServer((_, response) => response.end(shown)).listen(8080);
`;
const app = JSON.stringify({
  manifest_version: 2,
  name: 'app',
  runner: 'bash',
  bash_script: `exec /usr/lib/dstack/node -e '${program}'`,
  key_provider: 'kms',
  storage_fs: 'ext4',
  secure_time: false,
  allowed_envs: ['SECRET'],
});

const needed = [
  ...['qemu-system-x86_64', 'apt-get', 'dpkg-deb', 'ldd', 'mtype', 'curl', 'jq'],
  ...['swtpm', 'swtpm_setup', 'swtpm_ioctl', ...missingForVm()],
];
describeWithPrograms('a key service on Google Cloud', needed, () => {
  const blocks = shellBlocks('docs/kms-on-gcp.md');
  const [make, deploy, register, bootstrap, restart, replicate] = blocks as [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  let lab: MachineLab;
  let entrance: Server | undefined;
  let registry: WebServer | undefined;
  let imageId = '';
  let imageUrl = '';
  let kmsUrl = '';
  let missing: string | undefined;

  beforeAll(async () => {
    expect(blocks).toHaveLength(6);
    const built = await devImage();
    if ('missing' in built) {
      missing = built.missing;
      return;
    }
    // Where guests find the key service: a port of this host, since each of their machines is behind a NAT of its own.
    entrance = createServer((client) => {
      const address = projectState('kms')['external_ip'] ?? '';
      const inside = connect(12_001, address);
      for (const [one, other] of [
        [client, inside],
        [inside, client],
      ] as const) {
        one.pipe(other);
        one.once('error', () => other.destroy());
      }
    });
    const port = await listening(entrance);
    kmsUrl = `https://${VM_DOMAIN}:${port}`;
    lab = await startLabWithoutKms(built.folder, port);
    const images = join(lab.space.directory, 'containers');
    const { stdout } = await lab.must(
      lab.projects,
      '--json',
      'image',
      'container',
      'dstack-kms',
      '-o',
      images,
    );
    const [container] = JSON.parse(stdout) as { archive: string; image_id: string }[];
    imageId = container!.image_id;
    // No public registry is reachable from here: the machine fetches the image from this host.
    const archive = readFileSync(container!.archive);
    registry = createWebServer((_, response) => response.end(archive));
    imageUrl = `http://${VM_DOMAIN}:${await listening(registry)}/`;
    await bringUp('kms', make, deploy);
    await must(`${register}\n`, lab.hostConfig);
    await must(`${bootstrap}\n`);
  });
  afterAll(async () => {
    registry?.close();
    entrance?.close();
    await lab?.stop();
    if (lab !== undefined) expect(processesIn(lab.space.directory)).toEqual([]);
  });

  const projectState = (name: string): Record<string, string> =>
    JSON.parse(readFileSync(join(lab.projects, name, 'state.json'), 'utf8')) as Record<string, string>;

  /** Commands of the page. @param config another configuration than that of who deploys */
  async function must(commands: string, config?: string): Promise<Outcome> {
    const script = commands.replaceAll('measurement register', 'measurement register --allow-simulated');
    const addresses = Object.entries({ KMS: 'kms', REPLICA: 'kms-b' }).map(
      ([variable, name]) => `${variable}=$(jq -r .external_ip ${name}/state.json 2>/dev/null || true)\n`,
    );
    const outcome = await runCommand(
      ['bash', '-e', '-u', '-o', 'pipefail', '-c', `${addresses.join('')}${script}`],
      {
        cwd: lab.projects,
        env: {
          ...lab.env,
          ...(config === undefined ? {} : { DSTACK_CLOUD_CONFIG: config }),
          ...{ KMS_IMAGE: imageId, MY_NETWORK: '127.0.0.0/8', KMS_DOMAIN: VM_DOMAIN, KMS_URL: kmsUrl },
          PATH: `${join(repository, 'dist/bin')}:${process.env['PATH'] ?? ''}`,
        },
        timeoutMs: BLOCK_MS,
      },
    );
    if (outcome.code === 0) return outcome;
    const consoles = ['dstack-kms', 'dstack-kms-b', 'dstack-app'].map((name) =>
      lab.console(name).slice(-4000),
    );
    throw new Error([script, outcome.stdout, outcome.stderr, ...consoles].join('\n'));
  }

  /** A machine of the page, whose image and chain are on this host. */
  async function bringUp(name: string, first: string, rest: string): Promise<void> {
    await must(`${first} --os-image ${LAB_IMAGE}`);
    const project = join(lab.projects, name);
    const path = join(project, 'docker-compose.yaml');
    const compose = readFileSync(path, 'utf8');
    expect(compose).toContain(`image: ${imageId}`);
    writeFileSync(path, compose.replace('http://127.0.0.1:', `http://${VM_DOMAIN}:`));
    writeFileSync(
      join(project, 'prelaunch.sh'),
      `docker image inspect ${imageId} >/dev/null 2>&1 || /usr/lib/dstack/node -e '
  require("node:http").get("${imageUrl}", (answer) => answer.pipe(process.stdout));
' | docker load
`,
    );
    await must(rest);
  }

  test('gcp-kms: an application in a second machine gets its keys, and a restart keeps the root keys', async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const options = ['--os-image', LAB_IMAGE, '--data-size', '2', '--no-gw', '--fs', 'ext4'];
    await lab.must(lab.projects, 'new', 'app', ...options);
    const project = join(lab.projects, 'app');
    writeFileSync(join(project, 'exact.json'), app);
    writeFileSync(join(project, '.env'), `SECRET=${SECRET}\n`);
    const path = join(project, 'app.json');
    const settings = JSON.parse(readFileSync(path, 'utf8')) as object;
    writeFileSync(path, JSON.stringify({ ...settings, app_compose_file: 'exact.json' }));
    await lab.must(project, 'deploy', '--yes', '--no-wait');
    await lab.must(project, 'fw', 'allow', '8080');
    const digest = createHash('sha256').update(SECRET).digest('hex');
    expect(await page(`http://${projectState('app')['external_ip']}:8080/`)).toBe(digest);
    await lab.must(project, 'remove', '--all', '--yes');

    await must(restart);

    // Another configuration is another system to the vTPM: the disk with the root keys would not open.
    const compose = join(lab.projects, 'kms', 'docker-compose.yaml');
    const before = projectState('kms');
    writeFileSync(
      compose,
      readFileSync(compose, 'utf8').replace('[core]\n', '[core]\n      site_name = "new"\n'),
    );
    const refused = await lab.cli(join(lab.projects, 'kms'), 'deploy', '--yes');
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/unreadable/);
    expect(projectState('kms')).toEqual(before);
  });

  test('gcp-kms-replica: a second key service gets the root keys of the first', async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const [first, ...rest] = replicate.split('\n');
    const at = rest.findIndex((line) => line.includes('measurement register'));
    await bringUp('kms-b', first!, rest.slice(0, at).join('\n'));
    await must(rest[at]!, lab.hostConfig);
    await must(rest.slice(at + 1).join('\n'));
  });

  async function page(url: string): Promise<string> {
    const deadline = Date.now() + PAGE_MS;
    for (;;) {
      try {
        const answer = await fetch(url, { signal: AbortSignal.timeout(20_000) });
        if (answer.ok) return await answer.text();
      } catch {
        // Not yet.
      }
      if (Date.now() > deadline) throw new Error(`${url}: ${lab.console('dstack-app').slice(-4000)}`);
      await sleep(1_000);
    }
  }
});

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}
