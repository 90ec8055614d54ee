/** Our OS image as a virtual machine: it boots, measures, opens its disk, runs the application in Docker, ends in order. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serializeSysConfig, writeAppCompose } from '@dstack-cloud/app';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { freePort } from '@dstack-cloud/vmm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { busyboxImagesDisk } from '../harness/vm/busybox-image.ts';
import { devImage } from '../harness/vm/dev-image.ts';
import { missingForVm, startVm, type Vm } from '../harness/vm/machine.ts';

/** A boot takes a minute on a quiet machine without KVM, and several on a loaded one. */
const BOOT_MS = 600_000;

const service = `services:
  web:
    image: busybox:local
    command: ["sh", "-c", "echo boot >> /data/boots; cp /data/boots /www/index.html; exec httpd -f -p 8080 -h /www"]
    ports: ["8080:8080"]
    restart: always
    volumes: ["data:/data"]
volumes:
  data: {}
`;

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vm-guest-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function composeFile(): Uint8Array {
  return writeAppCompose({
    name: 'vm-guest',
    dockerComposeFile: service,
    gatewayEnabled: false,
    publicLogs: true,
    publicSysinfo: true,
    publicTcbinfo: true,
    keyProviderId: '',
    allowedEnvs: [],
    noInstanceId: false,
    secureTime: false,
    keyProvider: 'none',
    storageFs: 'ext4',
    preLaunchScript: '',
  });
}

async function page(port: number): Promise<string | undefined> {
  try {
    const answer = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(5_000) });
    return answer.ok ? await answer.text() : undefined;
  } catch {
    return undefined;
  }
}

function told(vm: Vm, event: string): string[] {
  return vm.notifications.filter((one) => one.event === event).map(({ payload }) => payload);
}

const needed = ['qemu-system-x86_64', 'apt-get', 'dpkg-deb', 'busybox', 'mksquashfs'];
describeWithPrograms('guest', missingForVm().length > 0 ? [...needed, ...missingForVm()] : needed, () => {
  test('vm-boots: the image boots, opens its disk, runs the application in Docker, and ends in order', {
    timeout: BOOT_MS,
  }, async (context) => {
    const built = await devImage();
    if ('missing' in built) return context.skip(built.missing);
    const seedFile = join(directory, 'seed');
    writeFileSync(seedFile, randomBytes(32));
    const [web, agent] = [await freePort(), await freePort()];
    const vm = await startVm({
      folder: join(directory, 'machine'),
      image: built.folder,
      seedFile,
      imagesDisk: busyboxImagesDisk(directory),
      ports: [
        { host: web, guest: 8080 },
        { host: agent, guest: 8090 },
      ],
      shared: {
        'app-compose.json': composeFile(),
        '.sys-config.json': serializeSysConfig({
          kmsUrls: [],
          gatewayUrls: [],
          pccsUrl: undefined,
          dockerRegistry: undefined,
          hostApiUrl: undefined,
          vmConfig: '{}',
        }),
      },
    });
    try {
      expect(await vm.until('page of the application', () => page(web), BOOT_MS)).toBe('boot\n');
      expect(await page(agent)).toContain('vm-guest');
      expect(vm.serial()).toContain('SIMULATED');
      await vm.until('end of the boot', () => told(vm, 'boot.progress').includes('done') || undefined);
      expect(told(vm, 'boot.error')).toEqual([]);
      expect(told(vm, 'instance.info')).toHaveLength(1);
      expect(await vm.guestApi('ListContainers')).toMatchObject({
        containers: [{ names: ['/dstack-web-1'], state: 'running' }],
      });
      await vm.guestApi('Shutdown');
      await vm.untilEnd();
      expect(vm.exitCode()).toBe(0);
      expect(told(vm, 'shutdown.progress')).toEqual(['powering off']);
    } finally {
      await vm.kill();
    }
  });
});
