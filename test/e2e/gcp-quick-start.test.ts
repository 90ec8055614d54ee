/**
 * The quick start of docs/gcp.md with machines that run: the emulated Google Cloud boots the disk that was uploaded, the key
 * service believes its vTPM, and the application's page is nginx's.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { addOsImageHash } from '@dstack-cloud/contracts';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { LAB_IMAGE, type MachineLab, startMachineLab } from '../harness/gcp/machine-lab.ts';
import { nginxImage } from '../harness/gcp/nginx-image.ts';
import { processesIn } from '../harness/run-command.ts';
import { devImage } from '../harness/vm/dev-image.ts';
import { missingForVm } from '../harness/vm/machine.ts';

/** Four boots, each minutes long on a loaded machine without KVM. */
vi.setConfig({ testTimeout: 3_000_000, hookTimeout: 600_000 });

const INSTANCE = 'dstack-web';
const NGINX = 'docker.io/library/nginx:lab';
const PAGE_MS = 600_000;

const needed = [
  ...['qemu-system-x86_64', 'apt-get', 'dpkg-deb', 'ldd', 'mtype'],
  ...['swtpm', 'swtpm_setup', 'swtpm_ioctl', ...missingForVm()],
];
describeWithPrograms('the quick start on Google Cloud', needed, () => {
  let lab: MachineLab | undefined;
  let registry: Server | undefined;
  let missing: string | undefined;
  beforeAll(async () => {
    const built = await devImage();
    if ('missing' in built) {
      missing = built.missing;
      return;
    }
    const nginx = await nginxImage(NGINX);
    if ('missing' in nginx) {
      missing = nginx.missing;
      return;
    }
    // No public registry is reachable from here: the machine fetches the image from this host.
    registry = createServer((_, response) => response.end(nginx.archive));
    await new Promise<void>((resolve) => registry?.listen(0, '127.0.0.1', resolve));
    lab = await startMachineLab(built.folder);
    const { contracts, osImageHash } = lab;
    await addOsImageHash(contracts.client, contracts.kms, `0x${osImageHash}`);
  });
  afterAll(async () => {
    registry?.close();
    await lab?.stop();
    if (lab !== undefined) expect(processesIn(lab.space.directory)).toEqual([]);
  });

  test('gcp-quick-start: from new to nginx’s page, an update that the chain has to allow, and back', async (context) => {
    if (lab === undefined || registry === undefined) return context.skip(missing);
    const { gcp, machines, projects, hostConfig } = lab;
    const { must, cli } = lab;
    const options = ['--fs', 'ext4', '--no-secure-time', '--data-size', '3', '--no-gw'];
    await must(projects, 'new', 'web', '--os-image', LAB_IMAGE, '--key-provider', 'kms', ...options);
    const project = join(projects, 'web');
    const state = (): Record<string, string> => JSON.parse(readFileSync(join(project, 'state.json'), 'utf8'));
    const port = (registry.address() as AddressInfo).port;
    const revision = (title: string): void => {
      writeFileSync(join(project, 'prelaunch.sh'), prelaunch(port, title));
      writeFileSync(join(project, 'docker-compose.yaml'), composeFile(title));
    };
    revision('first');

    await must(project, 'deploy', '--yes');
    await must(project, 'fw', 'allow', '8080');
    await must(project, 'fw', 'allow', '8090');
    const page = (): Promise<string> => pageOf(`http://${state()['external_ip']}:8080/`, lab!);
    expect(await page()).toBe('first x\n');
    const { stdout: status } = await must(project, '--config', hostConfig, 'status');
    expect(status).toMatch(/^Status: {7}RUNNING$/m);
    expect(status).toContain(`os-image-hash:  ${state()['os_image_hash']}`);
    expect((await must(project, 'logs', '--container', 'web')).stdout).toContain('GET / HTTP/1.1');
    const verdict = JSON.parse((await must(project, '--config', hostConfig, '--json', 'verify')).stdout);
    expect(verdict).toMatchObject({ is_valid: true, simulated: true });

    // The contract is asked before the machine is touched; the key service refuses who goes on all the same.
    revision('second');
    const early = await cli(project, 'deploy', '--yes');
    expect([early.code, early.stderr]).toEqual([1, expect.stringContaining('not allowed')]);
    expect(await page()).toBe('first x\n');
    const refused = await cli(project, 'deploy', '--yes', '--no-policy-check');
    expect(refused.stderr).toMatch(/Compose hash not allowed/);
    expect(refused.stderr).toContain('dstack-cloud app allow');
    expect(refused.code).toBe(1);

    await must(project, 'stop');
    expect(state()).toMatchObject({ status: 'STOPPED' });
    expect(processesIn(machines.folder).filter((line) => line.includes('qemu'))).toEqual([]);
    await must(project, 'app', 'allow');
    await must(project, 'start');
    // The same disk: its key is the application's, whichever of its compose files runs.
    expect(await page()).toBe('second xx\n');

    await must(project, 'rollback', '--yes');
    expect(await page()).toBe('first xxx\n');

    await must(project, 'remove', '--all', '--yes');
    const { compute, storage } = gcp;
    const left = [compute.instances, compute.disks, compute.images, compute.firewalls, storage.buckets];
    expect(left.map((all) => [...all.keys()])).toEqual([[], [], [], [], []]);
    expect(processesIn(machines.folder)).toEqual([]);
    expect(gcp.schemaErrors).toEqual([]);
  });
});

/** Measured with the application: fetches the image once, counts the starts with this disk, and writes the page. */
function prelaunch(port: number, title: string): string {
  return `set -e
docker image inspect nginx:lab >/dev/null 2>&1 || /usr/lib/dstack/node -e '
  require("node:http").get("http://10.0.2.2:${port}/", (answer) => answer.pipe(process.stdout));
' | docker load
mkdir -p /dstack/persistent/www
printf x >> /dstack/persistent/starts
echo "${title} $(cat /dstack/persistent/starts)" > /dstack/persistent/www/index.html
sync
`;
}

function composeFile(title: string): string {
  return `services:
  web:
    image: nginx:lab
    pull_policy: never
    restart: unless-stopped
    labels:
      title: ${title}
    ports:
      - "8080:80"
    volumes:
      - /dstack/persistent/www:/usr/share/nginx/html:ro
`;
}

async function pageOf(url: string, lab: MachineLab): Promise<string> {
  const deadline = Date.now() + PAGE_MS;
  for (;;) {
    try {
      const answer = await fetch(url, { signal: AbortSignal.timeout(20_000) });
      if (answer.ok) return await answer.text();
    } catch {
      // Not yet.
    }
    if (Date.now() > deadline)
      throw new Error(`${url} does not answer: ${lab.console(INSTANCE).slice(-4000)}`);
    await sleep(1_000);
  }
}
