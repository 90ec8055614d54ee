/** Our OS image as a virtual machine: it boots, measures, opens its disk, runs the application in Docker, ends in order. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { freePort, QmpClient, type QmpEvent } from '@dstack-cloud/vmm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { busyboxImagesDisk } from '../harness/busybox-image.ts';
import { countingApp, pageOf } from '../harness/vm/counting-app.ts';
import { devImage, prodImage } from '../harness/vm/dev-image.ts';
import { emptySysConfig } from '../harness/vm/empty-sys-config.ts';
import { bootUntil, missingForVm, type Vm } from '../harness/vm/machine.ts';

/** A boot takes a minute on a quiet machine without KVM, and several on a loaded one. */
const BOOT_MS = 600_000;
const BUILD_MS = 600_000;

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vm-guest-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function told(vm: Vm, event: string): string[] {
  return vm.notifications.filter((one) => one.event === event).map(({ payload }) => payload);
}

const needed = ['qemu-system-x86_64', 'apt-get', 'dpkg-deb', 'busybox', 'mksquashfs', ...missingForVm()];
describeWithPrograms('guest', needed, () => {
  test('vm-boots: the image boots, opens its disk, runs the application in Docker, and ends in order by its power button', {
    timeout: BUILD_MS + 2 * BOOT_MS,
  }, async (context) => {
    const built = await devImage();
    if ('missing' in built) return context.skip(built.missing);
    const seedFile = join(directory, 'seed');
    writeFileSync(seedFile, randomBytes(32));
    const [web, agent] = [await freePort(), await freePort()];
    const control = join(directory, 'qmp.sock');
    const options = {
      folder: join(directory, 'machine'),
      qemuArguments: ['-qmp', `unix:${control},server=on,wait=off`],
      image: built.folder,
      seedFile,
      imagesDisk: await busyboxImagesDisk(directory),
      ports: [
        { host: web, guest: 8080 },
        { host: agent, guest: 8090 },
      ],
      shared: {
        'app-compose.json': countingApp('none'),
        '.sys-config.json': emptySysConfig(),
      },
    };
    const { vm, found } = await bootUntil(options, 'page of the application', () => pageOf(web), BOOT_MS);
    try {
      expect(found).toBe('boot\n');
      expect(await pageOf(agent)).toContain('counting');
      expect(vm.serial()).toContain('SIMULATED');
      await vm.until('end of the boot', () => told(vm, 'boot.progress').includes('done') || undefined);
      expect(told(vm, 'boot.error')).toEqual([]);
      expect(told(vm, 'instance.info')).toHaveLength(1);
      expect(await vm.guestApi('ListContainers')).toMatchObject({
        containers: [{ names: ['/dstack-web-1'], state: 'running' }],
      });
      // A killed agent comes again in the same boot; the containers never stopped.
      vm.type('systemctl kill --signal=KILL dstack-guest\n');
      await vm.untilSerial(/dstack-guest ready: [\s\S]*dstack-guest ready: /);
      expect(await vm.until('page of the agent', () => pageOf(agent))).toContain('counting');
      expect(await pageOf(web)).toBe('boot\n');
      // Clouds stop machines by the power button.
      const events: QmpEvent[] = [];
      const running = () => vm.exitCode() === undefined;
      const qmp = await QmpClient.open(control, (event) => events.push(event), running);
      await qmp.command('system_powerdown');
      await vm.untilEnd(BOOT_MS);
      expect(vm.exitCode()).toBe(0);
      expect(vm.serial()).toContain('Application has stopped');
      expect(events.find(({ name }) => name === 'SHUTDOWN')?.data).toMatchObject({
        reason: 'guest-shutdown',
      });
    } finally {
      await vm.kill();
    }
  });

  test('vm-prod-no-simulation: a production image has no shell, takes no simulated TEE, tells its host and ends', {
    timeout: BOOT_MS + BUILD_MS,
  }, async (context) => {
    const built = await prodImage();
    if ('missing' in built) return context.skip(built.missing);
    const seedFile = join(directory, 'prod-seed');
    writeFileSync(seedFile, randomBytes(32));
    const options = {
      folder: join(directory, 'prod'),
      image: built.folder,
      seedFile,
      shared: { 'app-compose.json': countingApp('none'), '.sys-config.json': '{"vm_config":"{}"}' },
    };
    const refusal = (machine: Vm) => {
      machine.type('echo $((6*7))x\n');
      return told(machine, 'boot.error')[0];
    };
    const { vm, found: reason } = await bootUntil(options, 'reason of the end', refusal, BOOT_MS);
    try {
      expect(reason).toContain('This machine is no TEE');
      // The machine reboots, which ends QEMU here.
      await vm.untilEnd();
      expect(vm.serial()).not.toContain('42x');
      expect(vm.serial()).not.toContain('SIMULATED');
      expect(told(vm, 'boot.progress')).toEqual([]);
    } finally {
      await vm.kill();
    }
  });
});
