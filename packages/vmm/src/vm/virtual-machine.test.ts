import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { checkCvm, createCvm } from '../change/create-cvm.ts';
import { closeUpdate, updateCvm } from '../change/update-cvm.ts';
import { readManifest, type VmManifest } from '../manifest/manifest.ts';
import { machineProcesses } from '../programs/machine-processes.ts';
import { HURRY, removeCvm, startCvm, stopCvm } from '../run/lifecycle.ts';
import { readState } from '../state/state.ts';
import { cvmStatus } from '../state/status.ts';
import { writeBootDisk } from '../test/boot-disk.ts';
import { until } from '../test/machine-lab.ts';
import { type VmLab, vmLab, writeImage } from '../test/vm-lab.ts';

/** Supervisors start from source: seconds each where others work too. */
vi.setConfig({ testTimeout: 120_000 });

let lab: VmLab;
let dir: string;
beforeEach(() => {
  lab = vmLab();
  dir = lab.options.dir;
});
afterEach(() => lab.cleanUp());

const text = (name: string): string => readFileSync(join(dir, name), 'utf8');
const qemuPid = (): number => Number(text('qemu.pid'));

describe('a virtual machine', () => {
  it('starts, says how it runs, ends in order, and keeps its ports', async () => {
    await createCvm(lab.options);
    const progress: string[] = [];
    const { state } = await startCvm(dir, { onProgress: (one) => progress.push(one) });
    expect(state.status).toBe('running');
    expect(state.vm).toMatchObject({
      acceleration: 'tcg',
      cpu: 'max,la57=off',
      qemu_version: '7.2.22',
      vsock: 'vhost-user',
      restarts: 0,
    });
    const argv = JSON.parse(text('argv.json')) as string[];
    expect(argv).toContain(`if=none,id=data,format=raw,discard=unmap,file=${dir}/data.img`);
    expect(argv.join(' ')).toContain(
      `user,id=net0,hostfwd=tcp:127.0.0.1:${state.ports['80']}-:80,hostfwd=tcp:127.0.0.1:${state.ports['agent']}-:8090`,
    );
    const shared = readFileSync(join(dir, 'shared.img')).toString('latin1');
    // The stand-in is QEMU 7.2, for which no measurement rules exist.
    const measured = 'qemu_version\\":\\"9.1.0';
    for (const part of ['https://10.0.2.2:9', 'vsock://2:10000/api', 'pre202505', measured])
      expect(shared).toContain(part);
    expect(text('logs/serial.log')).toMatch(/^kernel says hello$/m);
    await expect(startCvm(dir)).rejects.toMatchObject({ code: 'already_running' });
    expect(await stopCvm(dir)).toBe(true);
    // The guest was asked, and ended by itself.
    expect(text('qmp.txt')).toBe('qmp_capabilities\nsystem_powerdown\n');
    expect(machineProcesses(dir)).toEqual([]);
    expect((await readState(dir)).status).toBe('stopped');
    const again = await startCvm(dir);
    expect(again.state.ports).toEqual(state.ports);
    await stopCvm(dir, { force: true });
    expect(text('qmp.txt').split('\n').at(-2)).toBe('quit');
    await removeCvm(dir);
    expect(existsSync(dir)).toBe(false);
  });

  it('whose guest does not answer when it is asked to end is ended all the same', async () => {
    await createCvm(lab.withMode('stubborn'));
    const { state } = await startCvm(dir);
    const stopping = stopCvm(dir);
    await until(async () => text('qmp.txt').includes('system_powerdown'));
    expect((await readState(dir)).boot_progress).toBe('powering off');
    // Shortens the minute and a half for which a guest is waited for.
    process.kill(state.supervisor!.pid, HURRY);
    expect(await stopping).toBe(true);
    expect(text('qmp.txt').split('\n').at(-2)).toBe('quit');
    expect(machineProcesses(dir)).toEqual([]);
    expect((await readState(dir)).status).toBe('stopped');
  });

  it('that is killed starts again by itself, with the same disk and ports', async () => {
    await createCvm(lab.options);
    const { state } = await startCvm(dir);
    const before = qemuPid();
    process.kill(before, 'SIGKILL');
    await until(
      async () => (await readState(dir)).vm?.restarts === 1 && (await readState(dir)).status === 'running',
    );
    expect(qemuPid()).not.toBe(before);
    expect((await readState(dir)).ports).toEqual(state.ports);
    await stopCvm(dir);
    expect(machineProcesses(dir)).toEqual([]);
  });

  it('whose guest powers off has ended, and is not started again', async () => {
    await createCvm(lab.withMode('leaves'));
    await startCvm(dir);
    await until(async () => (await readState(dir)).status === 'stopped');
    expect((await readState(dir)).error).toBeNull();
    expect(machineProcesses(dir)).toEqual([]);
  });

  it('whose console says too much fills no disk', async () => {
    await createCvm(lab.withMode('flood'));
    await startCvm(dir);
    await stopCvm(dir, { force: true });
    const logs = readdirSync(join(dir, 'logs')).map((name) => statSync(join(dir, 'logs', name)).size);
    expect(logs.reduce((sum, size) => sum + size, 0)).toBeLessThan(18 * 1024 * 1024);
  });
});

describe.runIf(process.geteuid?.() === 0)('on a host whose disk becomes full', () => {
  afterEach(() => execFileSync('umount', ['-l', lab.runPath]));

  it('a machine stands still and says so, and goes on by itself when there is room', async () => {
    mkdirSync(lab.runPath, { mode: 0o700 });
    const mount = (...options: string[]) =>
      execFileSync('mount', ['-t', 'tmpfs', '-o', ['mode=0700', ...options].join(), 'tmpfs', lab.runPath]);
    mount('size=2g');
    await createCvm(lab.withMode('writes'));
    await startCvm(dir);
    mount('remount', 'size=64m');
    writeFileSync(join(dir, 'full'), '');
    const says = expect.stringMatching(
      /disk is full and the machine stands still: free \d+ bytes for .*data\.img$/,
    );
    await until(async () => (await readState(dir)).error !== null);
    expect(await readState(dir)).toMatchObject({ status: 'running', error: says });
    expect(text('logs/serial.log')).toContain('stands still');
    expect(text('qmp.txt')).not.toContain('cont');
    mount('remount', 'size=2g');
    await until(async () => (await readState(dir)).error === null);
    expect(text('qmp.txt')).toContain('cont\n');
    expect(await stopCvm(dir)).toBe(true);
    expect(machineProcesses(dir)).toEqual([]);
  });
});

describe('a boot that fails says why, and leaves nothing running:', () => {
  it.each([
    ['denied', 'boot_failed', /^Boot denied: Compose hash not allowed$/],
    ['reboots', 'boot_failed', /The guest ended \(guest-reset\); last on its console:[\s\S]*Kernel panic/],
    ['taken', 'boot_failed', /^Port 1 on 127\.0\.0\.1 is in use\. Stop the program/],
    [
      'silent',
      'boot_failed',
      /did not bring its application up within 1 s .*requesting app keys.*boot_timeout of local_config in app\.json, of cvm in/,
    ],
  ])('%s', async (mode, code, message) => {
    const options = lab.withMode(mode);
    const vm = {
      ...options.vm,
      image_folder: lab.imageFolder,
      ...(mode === 'silent' && { boot_timeout: 1 }),
    };
    await createCvm({ ...options, vm });
    await expect(startCvm(dir)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect((await cvmStatus(dir)).state).toMatchObject({ status: 'failed', supervisor: null });
    expect(machineProcesses(dir)).toEqual([]);
  });
});

describe('checks before anything is changed', () => {
  const refused = async (code: string, message: RegExp, change: object = {}): Promise<void> => {
    const options = { ...lab.options, vm: { ...lab.options.vm, image_folder: lab.imageFolder, ...change } };
    await expect(createCvm(options)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect(existsSync(dir)).toBe(false);
  };

  it('a TD under a QEMU that starts none', async () => {
    await expect(createCvm({ ...lab.options, tee: 'tdx' })).rejects.toThrow(/starts no TD/);
  });
  it('no QEMU', () => refused('program_missing', /install QEMU/, { qemu: 'qemu-nowhere' }));
  it('memory that cannot be measured', () => refused('bad_option', /1024 MiB/, { memory: 1024 }));
  it('ports without a network that maps them', () =>
    refused('bad_option', /network of mode user/, { networks: [{ mode: 'bridge', bridge_name: 'br0' }] }));
  it('an image of another flavour', async () => {
    writeImage(lab.imageFolder, false);
    await refused('bad_image', /flavour prod.*image build --dev/);
  });
  it('an image of another version, whose description or measurement is not known here', async () => {
    writeImage(lab.imageFolder, true, '', { metadata: { cmdline: ['console=ttyS0'] } });
    await refused('bad_image', /metadata\.json/);
    writeImage(lab.imageFolder, true, '', { document: Uint8Array.of(0xa1, 0x01, 0x63, 0x6e, 0x65, 0x77) });
    await refused('bad_image', /measurement\.tdx\.cbor/);
  });
  it('an image of which a file was changed', async () => {
    writeFileSync(join(lab.imageFolder, 'bzImage'), 'other');
    await refused('bad_image', /bzImage is not the file/);
  });
  it('an image whose list was changed', async () => {
    writeFileSync(join(lab.imageFolder, 'digest.txt'), '00');
    await refused('bad_image', /digest\.txt/);
  });
  it('a folder that is no image', async () => {
    rmSync(join(lab.imageFolder, 'metadata.json'));
    await refused('bad_image', /metadata\.json is missing/);
  });
  it('a disk whose kernel image is gone, lacks a part, or is not the one of the image', async () => {
    const disk = { boot: 'disk' };
    await refused('bad_image', /uki\.efi: it is missing; build or download/, disk);
    await writeBootDisk(lab.imageFolder);
    const [path, uki] = ['disk.raw', 'uki.efi'].map((name) => join(lab.imageFolder, name)) as [
      string,
      string,
    ];
    const [bytes, kernel] = [readFileSync(path), readFileSync(uki)];
    await expect(
      checkCvm({ ...lab.options, vm: { ...lab.options.vm, image_folder: lab.imageFolder, boot: 'disk' } }),
    ).resolves.toBeUndefined();
    const flipped = Buffer.from(bytes);
    flipped[bytes.indexOf('DSTKSTUB') + 64]! ^= 1;
    writeFileSync(path, flipped);
    await refused('bad_image', /disk\.raw: its EFI system partition is not the one/, disk);
    writeFileSync(path, bytes.subarray(0, 40 * 1024 * 1024));
    await refused('bad_image', /disk\.raw: it is cut off at byte \d+; build or download/, disk);
    writeFileSync(path, bytes);
    writeFileSync(uki, Buffer.from(kernel.toString('latin1').replace('.initrd', '.xinitr'), 'latin1'));
    await refused('bad_image', /uki\.efi is no whole unified kernel image \(.*section.*\)/, disk);
  });
  it('a place without room', async () => {
    // A file system of the kernel, which has room for nothing.
    await expect(checkCvm({ ...lab.options, dir: '/proc/machine' })).rejects.toMatchObject({
      code: 'no_space',
      message: expect.stringMatching(
        /too little room for a machine: free some space, or move the folder of machines/,
      ),
    });
  });
  it('a port that is taken', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const options = { ...lab.options, ports: [{ host: port, guest: 80 }] };
    await expect(createCvm(options)).rejects.toMatchObject({ code: 'port_in_use' });
    server.close();
  });
});

describe('a machine that is there', () => {
  it('does not start when its folder was moved or copied, or its disk is gone or cut off', async () => {
    await createCvm(lab.options);
    const other = `${dir}-other`;
    cpSync(dir, other, { recursive: true });
    await expect(startCvm(other)).rejects.toMatchObject({ code: 'moved' });
    rmSync(other, { recursive: true });
    renameSync(dir, other);
    await expect(startCvm(other)).rejects.toThrow(/move the folder back/);
    renameSync(other, dir);
    truncateSync(join(dir, 'data.img'), 1024);
    await expect(startCvm(dir)).rejects.toThrow(/smaller than before/);
    rmSync(join(dir, 'data.img'));
    await expect(startCvm(dir)).rejects.toThrow(/cannot be opened/);
    expect(existsSync(join(dir, 'data.img'))).toBe(false);
    expect(machineProcesses(dir)).toEqual([]);
  });

  it('gets another image and a larger disk, keeps its data, and goes back', async () => {
    await createCvm(lab.options);
    const before = (await readManifest(dir)) as VmManifest;
    const vm = { ...lab.options.vm, image_folder: join(lab.root, 'newer'), disk_size: 2 };
    writeImage(vm.image_folder, true, 'newer');
    await updateCvm({ ...lab.options, vm }, { open: true });
    expect(((await readManifest(dir)) as VmManifest).vm).toMatchObject({ ...vm });
    expect(statSync(join(dir, 'data.img')).size).toBe(2 * 1024 ** 3);
    await closeUpdate(dir, 'undo');
    expect(await readManifest(dir)).toEqual(before);
    await updateCvm({ ...lab.options, vm });
    await expect(checkCvm({ ...lab.options, vm: { ...vm, disk_size: 1 } })).rejects.toThrow(/cannot shrink/);
    const { vm: _, ...process } = lab.options;
    await expect(updateCvm(process)).rejects.toThrow(/has driver vm/);
    expect(((await readManifest(dir)) as VmManifest).vm).toMatchObject({ ...vm });
  });
});
