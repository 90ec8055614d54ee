/** Power cuts while our OS image boots: the next boot goes on, with the same identity and all data. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { composeHash, serializeSysConfig } from '@dstack-cloud/app';
import { addOsImageHash, deployApp } from '@dstack-cloud/contracts';
import { toHex } from '@dstack-cloud/encoding';
import { VM_DOMAIN } from '@dstack-cloud/scripts/demo/kms';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { freePort, resolveProgram } from '@dstack-cloud/vmm';
import { expect, test } from 'vitest';
import { busyboxImagesDisk } from '../harness/busybox-image.ts';
import { type Stack, startStack } from '../harness/stack.ts';
import { countingApp, pageOf } from '../harness/vm/counting-app.ts';
import { devImage } from '../harness/vm/dev-image.ts';
import {
  bootUntil,
  missingForVm,
  VM_CPUS,
  VM_MEMORY_MB,
  type Vm,
  type VmOptions,
} from '../harness/vm/machine.ts';

/** All boots together; one takes a minute on a quiet machine without KVM, and several on a loaded one. */
const TEST_MS = 1_500_000;
const BOOT_MS = 400_000;

/** What the host could give a guest beside its disks, and what must not count. */
const UNMEASURED = [
  ...['-smbios', 'type=11,value=io.systemd.credential:dstack.attack=taken'],
  ...['-smbios', 'type=11,value=io.systemd.stub.kernel-cmdline-extra=systemd.unit=rescue.target'],
  ...['-fw_cfg', 'name=opt/io.systemd.credentials/dstack.attack,string=taken'],
];

/** When the power fails, boot after boot; the disk that the second begins to format is what the others find. */
const CUTS: readonly (readonly [what: string, when: (vm: Vm) => boolean])[] = [
  ['the key is asked for', (vm) => isTold(vm, 'requesting app keys')],
  ['the disk is being formatted', (vm) => vm.serial().includes('Data disk is formatted')],
  ['the disk is open', (vm) => isTold(vm, 'data disk ready')],
  ['containers start', (vm) => isTold(vm, 'starting containers')],
];

function isTold(vm: Vm, step: string): boolean {
  return vm.notifications.some(({ event, payload }) => event === 'boot.progress' && payload === step);
}

/** What the machine measured in its latest boot, as its simulated hardware saw it. */
function registers(folder: string): readonly string[] {
  return (JSON.parse(readFileSync(join(folder, 'tee.json'), 'utf8')) as { rtmrs: string[] }).rtmrs;
}

/** The image is allowed on chain, and an application of its own that may run on it. */
async function allowed(
  stack: Stack,
  image: string,
  compose: Uint8Array,
): Promise<{ appId: string; vmConfig: string }> {
  const [program, ...args] = resolveProgram('dstack-tee-simulator') as [string, ...string[]];
  const size = ['--memory', String(VM_MEMORY_MB * 1024 * 1024), '--cpus', String(VM_CPUS)];
  const described = execFileSync(program, [
    ...args,
    'image',
    '--image-folder',
    image,
    '--qemu-version',
    '9.1.0',
    ...size,
  ]);
  const { os_image_hash, vm_config } = JSON.parse(described.toString()) as {
    os_image_hash: string;
    vm_config: object;
  };
  const { client, kms } = stack.contracts;
  await addOsImageHash(client, kms, `0x${os_image_hash}`);
  const { appId } = await deployApp({
    client,
    kms,
    owner: client.account.address,
    allowAnyDevice: true,
    composeHash: `0x${toHex(composeHash(compose))}`,
  });
  return { appId: appId.slice(2).toLowerCase(), vmConfig: JSON.stringify(vm_config) };
}

const needed = ['qemu-system-x86_64', 'apt-get', 'dpkg-deb', 'busybox', 'mksquashfs', ...missingForVm()];
describeWithPrograms('power cuts', needed, () => {
  test('vm-kill-each-step: after a power cut at any step the next boot has the same registers and all data', {
    timeout: TEST_MS,
  }, async (context) => {
    const built = await devImage();
    if ('missing' in built) return context.skip(built.missing);
    const stack = await startStack(undefined, { domain: VM_DOMAIN });
    let vm: Vm | undefined;
    try {
      const compose = countingApp('kms');
      const { appId, vmConfig } = await allowed(stack, built.folder, compose);
      const folder = join(stack.space.machines, 'power-cut');
      const [web, agent] = [await freePort(), await freePort()];
      const options: VmOptions = {
        folder,
        image: built.folder,
        seedFile: stack.space.seedFile,
        imagesDisk: await busyboxImagesDisk(stack.space.machines),
        ports: [
          { host: web, guest: 8080 },
          { host: agent, guest: 8090 },
        ],
        shared: {
          'app-compose.json': compose,
          '.instance_info': JSON.stringify({
            app_id: appId,
            instance_id_seed: '17'.repeat(20),
            instance_id: '',
          }),
          '.sys-config.json': serializeSysConfig({
            kmsUrls: [stack.kms.url.replace('127.0.0.1', VM_DOMAIN)],
            gatewayUrls: [],
            pccsUrl: stack.pccs.pccsUrl.replace('127.0.0.1', VM_DOMAIN),
            dockerRegistry: undefined,
            hostApiUrl: undefined,
            vmConfig,
          }),
        },
        qemuArguments: UNMEASURED,
      };
      const seen: (readonly string[])[] = [];
      for (const [what, when] of CUTS) {
        const { vm: cut } = await bootUntil(options, what, (machine) => when(machine) || undefined, BOOT_MS);
        if (isTold(cut, 'data disk ready')) seen.push(registers(folder));
        if (what === 'the disk is open') {
          cut.type('echo here > /dstack/persistent/mark; sync; echo "kept: $((6*7))"\n');
          await cut.untilSerial(/kept: 42/, BOOT_MS);
        }
        await cut.kill();
      }
      expect(seen).toHaveLength(2);
      const look = () => pageOf(web);
      const { vm: whole, found: page } = await bootUntil(options, 'page of the application', look, BOOT_MS);
      vm = whole;
      expect(page).toMatch(/^(boot\n)+$/);
      expect(whole.notifications.filter(({ event }) => event === 'boot.error')).toEqual([]);
      expect(await pageOf(agent)).toContain(appId);
      expect(seen).toEqual([registers(folder), registers(folder)]);
      whole.type(
        'echo "mark: $(cat /dstack/persistent/mark), taken: $(ls /run/credentials/@system /run/credentials/@encrypted 2>/dev/null)" END\n',
      );
      const shown = (await whole.untilSerial(/mark: here, taken: (.*) END\r?\n/)).at(1);
      expect(shown).not.toContain('dstack.attack');
      await whole.guestApi('Shutdown');
      await whole.untilEnd();
      expect(whole.exitCode()).toBe(0);
    } finally {
      await vm?.kill();
      await stack.stop();
    }
  });
});
