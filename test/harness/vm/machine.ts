/**
 * A virtual machine of our OS image, started by QEMU with all that its host gives: simulated TEE, host API, disks. Every
 * process is ended by its id.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readImage, writeFat32 } from '@dstack-cloud/os-image';
import { findProgram } from '@dstack-cloud/test/requires';
import { type Notification, processorArguments, resolveProgram, startHostApi } from '@dstack-cloud/vmm';
import { endWithTest } from './end-with-test.ts';

const HOST_API_PORT = 10_000;
const TEE_PORT = 4051;
const MIB = 1024 * 1024;
const SHARED_BYTES = 8 * MIB;
const MAX_SERIAL = 4 * MIB;
/** Version of QEMU whose tables the measurements are computed for. */
const QEMU_VERSION = '9.1.0';
export const VM_MEMORY_MB = 2048;
export const VM_CPUS = 2;

export interface VmOptions {
  /** Folder of this machine; kept between boots, so the data disk lives on. */
  readonly folder: string;
  /** Folder of the OS image. */
  readonly image: string;
  /** Files of the shared disk by name. */
  readonly shared: Readonly<Record<string, Uint8Array | string>>;
  /** Seed of the simulated hardware; undefined for a machine without a TEE. */
  readonly seedFile?: string;
  /** Disk of container images. */
  readonly imagesDisk?: string;
  readonly dataBytes?: number;
  readonly ports?: readonly { readonly host: number; readonly guest: number }[];
  /**
   * The image's firmware starts the image's disk, and measures it into a software TPM; by default QEMU loads the kernel,
   * which is quicker and measured nowhere.
   */
  readonly measured?: boolean;
  /** More of the command line; it is measured, so such a machine has other measurements than its image. */
  readonly append?: string;
  /** Arguments of QEMU beside the usual ones. */
  readonly qemuArguments?: readonly string[];
}

export interface Vm {
  readonly notifications: readonly Notification[];
  /** Milliseconds from the start of QEMU. */
  readonly elapsed: () => number;
  /** What the console showed so far. */
  serial(): string;
  /** Status QEMU ended with; undefined while it runs. */
  exitCode(): number | undefined;
  /** Waits for a condition, until the machine ends or the time is over. */
  until<T>(what: string, look: () => T | undefined | Promise<T | undefined>, timeoutMs?: number): Promise<T>;
  /** Waits until the console shows it. */
  untilSerial(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray>;
  untilEnd(timeoutMs?: number): Promise<void>;
  /** A call of the guest's API for its host. */
  guestApi(method: string): Promise<unknown>;
  /** Types into the console. */
  type(text: string): void;
  /** Ends it at once, as a power cut does. */
  kill(): Promise<void>;
}

/** Names of programs that are missing here; none when machines can be started. */
export function missingForVm(): string[] {
  return [
    ...(findProgram('qemu-system-x86_64') === undefined ? ['qemu-system-x86_64'] : []),
    ...(vhostDevice() === undefined ? ['vhost-device-vsock'] : []),
  ];
}

function vhostDevice(): string | undefined {
  const cached = join(homedir(), '.cache/dstack-cloud/bin/vhost-device-vsock');
  return findProgram('vhost-device-vsock') ?? (existsSync(cached) ? cached : undefined);
}

/** Boots a machine; returns when QEMU runs. */
export async function startVm(options: VmOptions): Promise<Vm> {
  const { folder } = options;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const image = await readImage(options.image);
  const [vsock, vhost, tee] = ['vm.vsock', 'vhost.sock', `vm.vsock_${TEE_PORT}`].map((name) =>
    join(folder, name),
  ) as [string, string, string];
  const hostApi = join(folder, `vm.vsock_${HOST_API_PORT}`);
  for (const path of [vsock, vhost, tee, hostApi]) rmSync(path, { force: true });
  const children: ChildProcess[] = [];
  const notifications: Notification[] = [];
  const host = await startHostApi(hostApi, (one) => notifications.push(one));
  const shared: Record<string, Uint8Array | string> = { ...options.shared };
  if (options.seedFile !== undefined) {
    const description = ['--image-folder', options.image, '--qemu-version', QEMU_VERSION];
    const size = ['--memory', String(VM_MEMORY_MB * MIB), '--cpus', String(VM_CPUS)];
    const [program, ...args] = resolveProgram('dstack-tee-simulator') as [string, ...string[]];
    const state = ['--state', join(folder, 'tee.json'), '--seed-file', options.seedFile];
    children.push(start(program, [...args, 'tdx', ...state, '--socket', tee, ...description, ...size]));
    await untilThere(tee);
    shared['simulated-root-ca.pem'] = await output(program, [
      ...args,
      'root',
      '--seed-file',
      options.seedFile,
    ]);
  }
  const files = Object.entries(shared).map(([path, data]) => ({
    path,
    data: new Uint8Array(Buffer.from(data)),
  }));
  const volume = writeFat32({ size: SHARED_BYTES, label: 'DSTACKSHR', volumeId: 1, files });
  writeFileSync(join(folder, 'shared.img'), volume, { mode: 0o600 });
  growFile(join(folder, 'data.img'), options.dataBytes ?? 2048 * MIB);
  children.push(start(vhostDevice() ?? '', ['--vm', `guest-cid=7,uds-path=${vsock},socket=${vhost}`]));
  await untilThere(vhost);
  const disk = (name: string, file: string, more: string) => [
    ...['-drive', `if=none,id=${name},format=raw,${more},file=${file}`],
    ...['-device', `virtio-blk-pci,drive=${name},serial=${name}`],
  ];
  const forwards = (options.ports ?? [])
    .map((port) => `,hostfwd=tcp:127.0.0.1:${port.host}-:${port.guest}`)
    .join('');
  const commandLine =
    options.append === undefined ? image.commandLine : `${image.commandLine} ${options.append}`;
  if (options.measured) children.push(await startTpm(folder));
  const measured = [
    ...['-bios', join(options.image, image.firmware ?? ''), ...tpmDevice(folder)],
    ...['-drive', `if=none,id=boot,format=raw,readonly=on,file=${join(options.image, 'disk.raw')}`],
    ...['-device', 'virtio-blk-pci,drive=boot,bootindex=1'],
  ];
  const direct = [
    ...['-kernel', join(options.image, image.kernel), '-initrd', join(options.image, image.initrd)],
    ...['-append', commandLine],
    ...['-drive', `if=none,id=root,format=raw,readonly=on,file=${join(options.image, image.rootfs ?? '')}`],
    ...['-device', 'virtio-blk-pci,drive=root'],
  ];
  const started = performance.now();
  const qemu = start(
    'qemu-system-x86_64',
    [
      ...processorArguments('tcg'),
      ...['-smp', String(VM_CPUS), '-m', `${VM_MEMORY_MB}M`],
      ...['-object', `memory-backend-memfd,id=mem0,size=${VM_MEMORY_MB}M,share=on`],
      ...['-machine', 'q35,memory-backend=mem0', '-nodefaults', '-no-user-config', '-display', 'none'],
      ...['-no-reboot', '-chardev', 'stdio,id=com0,signal=off', '-serial', 'chardev:com0'],
      ...(options.measured ? measured : direct),
      ...disk('data', join(folder, 'data.img'), 'discard=unmap'),
      ...disk('shared', join(folder, 'shared.img'), 'readonly=on'),
      ...(options.imagesDisk === undefined ? [] : disk('images', options.imagesDisk, 'readonly=on')),
      ...['-netdev', `user,id=net0${forwards}`, '-device', 'virtio-net-pci,netdev=net0,romfile='],
      ...['-chardev', `socket,id=vs,path=${vhost}`, '-device', 'vhost-user-vsock-pci,chardev=vs'],
      ...(options.qemuArguments ?? []),
    ],
    'pipe',
  );
  children.push(qemu);
  let serial = '';
  const collect = (chunk: Buffer) => {
    serial = (serial + chunk.toString('utf8')).slice(-MAX_SERIAL);
  };
  qemu.stdout?.on('data', collect);
  qemu.stderr?.on('data', collect);
  const ended = new Promise<void>((resolve) => qemu.once('close', () => resolve()));
  const exitCode = () => qemu.exitCode ?? (qemu.signalCode === null ? undefined : 137);
  void ended.then(async () => {
    for (const child of children) child.kill('SIGTERM');
    host.closeAllConnections();
    host.close();
  });
  const until: Vm['until'] = async (what, look, timeoutMs = 240_000) => {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const found = await look();
      if (found !== undefined) return found;
      if (exitCode() !== undefined)
        throw new Error(`The machine ended before ${what}: ${serial.slice(-3000)}`);
      if (Date.now() > deadline) throw new Error(`No ${what} in ${timeoutMs} ms: ${serial.slice(-3000)}`);
      await sleep(100);
    }
  };
  return {
    notifications,
    elapsed: () => performance.now() - started,
    serial: () => serial,
    exitCode,
    until,
    untilSerial: (pattern, timeoutMs) =>
      until(String(pattern), () => pattern.exec(serial) ?? undefined, timeoutMs),
    untilEnd: async (timeoutMs = 120_000) => {
      const deadline = Date.now() + timeoutMs;
      while (exitCode() === undefined) {
        if (Date.now() > deadline) throw new Error(`The machine does not end: ${serial.slice(-3000)}`);
        await sleep(100);
      }
      await ended;
    },
    guestApi: (method) => callGuest(vsock, method),
    type: (text) => void qemu.stdin?.write(text),
    kill: async () => {
      qemu.kill('SIGKILL');
      await ended;
    },
  };
}

/**
 * What a kernel ends with in its first seconds, before anything of ours runs, when QEMU emulates its processors on a busy machine:
 * an instruction that was just being patched, or too few ticks of a timer.
 */
const EMULATION_FAULT = /Oops: int3|IO-APIC \+ timer doesn't work/;
const TRIES = 3;

/** Boots a machine until something is seen; one that the emulation broke is booted again. */
export async function bootUntil<T>(
  options: VmOptions,
  what: string,
  look: (vm: Vm) => T | undefined | Promise<T | undefined>,
  timeoutMs?: number,
): Promise<{ readonly vm: Vm; readonly found: T }> {
  for (let tries = 1; ; tries++) {
    const vm = await startVm(options);
    try {
      return { vm, found: await vm.until(what, () => look(vm), timeoutMs) };
    } catch (error) {
      await vm.kill();
      if (tries === TRIES || !EMULATION_FAULT.test(vm.serial())) throw error;
    }
  }
}

/** Its state is kept between boots: registers are new at each, what it has sealed stays. */
async function startTpm(folder: string): Promise<ChildProcess> {
  const state = join(folder, 'tpm');
  const control = tpmControl(folder);
  rmSync(control, { force: true });
  if (!existsSync(state)) {
    mkdirSync(state);
    await output('swtpm_setup', ['--tpm2', '--tpmstate', state, '--pcr-banks', 'sha256,sha384']);
  }
  const args = ['socket', '--tpm2', '--tpmstate', `dir=${state}`, '--ctrl', `type=unixio,path=${control}`];
  const tpm = start('swtpm', args);
  await untilThere(control);
  return tpm;
}

const tpmControl = (folder: string): string => join(folder, 'tpm.sock');

function tpmDevice(folder: string): string[] {
  const emulator = ['-chardev', `socket,id=tpm,path=${tpmControl(folder)}`];
  return [...emulator, '-tpmdev', 'emulator,id=tpm0,chardev=tpm', '-device', 'tpm-crb,tpmdev=tpm0'];
}

function start(program: string, args: readonly string[], input: 'pipe' | 'ignore' = 'ignore'): ChildProcess {
  const child = spawn(program, args, { stdio: [input, 'pipe', 'pipe'] });
  endWithTest(child);
  child.stdout?.resume();
  child.stderr?.on('data', (bytes: Buffer) => {
    if (program.includes('node')) process.stderr.write(bytes);
  });
  return child;
}

function output(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.on('data', (bytes: Buffer) => {
      text += bytes.toString('utf8');
    });
    child.once('error', reject);
    child.once('close', (code) =>
      code === 0 ? resolve(text) : reject(new Error(`${program}: status ${code}`)),
    );
  });
}

async function untilThere(path: string): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!existsSync(path)) {
    if (Date.now() > deadline) throw new Error(`${path} does not appear`);
    await sleep(20);
  }
}

/** Data disks only grow. */
function growFile(path: string, bytes: number): void {
  const file = openSync(path, 'a', 0o600);
  try {
    ftruncateSync(file, bytes);
  } finally {
    closeSync(file);
  }
}

/** The host's side of the guest's vsock port 8000. */
async function callGuest(vsock: string, method: string): Promise<unknown> {
  const stream = connect({ path: vsock });
  await new Promise<void>((resolve, reject) => {
    stream.once('error', reject);
    stream.once('close', () => reject(new Error('nobody listens in the guest')));
    stream.once('data', (line: Buffer) =>
      line.toString().startsWith('OK ') ? resolve() : reject(new Error(line.toString())),
    );
    stream.write('CONNECT 8000\n');
  });
  return await new Promise((resolve, reject) => {
    const outgoing = request(
      { createConnection: () => stream, path: `/api/${method}?json`, method: 'POST', timeout: 30_000 },
      (response) => {
        let text = '';
        response.on('data', (bytes: Buffer) => {
          text += bytes.toString('utf8');
        });
        response.once('end', () => {
          stream.destroy();
          if (response.statusCode === 200) resolve(JSON.parse(text));
          else reject(new Error(`${method}: ${text}`));
        });
      },
    );
    outgoing.once('timeout', () => outgoing.destroy(new Error('timed out')));
    outgoing.once('error', reject);
    outgoing.end('{}');
  });
}
