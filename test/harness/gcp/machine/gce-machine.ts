/**
 * A machine of the emulated Compute Engine, really running: the disks that were uploaded, a vTPM in which the emulated
 * firmware measured them, the simulated TDX, and QEMU on the kernel, initramfs and command line of the boot disk's image.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type SimulatedGcp, type SimulatedPlatform, tsmEndpoint } from '@dstack-cloud/tee-simulator';
import { processorArguments, QmpClient, vsockTransport } from '@dstack-cloud/vmm';
import { endWithTest } from '../../vm/end-with-test.ts';
import { readBootDisk } from './boot-disk.ts';
import { handOverLog } from './firmware-log.ts';
import { gceImageOf } from './gce-image.ts';
import { GuestDebugger } from './guest-debugger.ts';
import type { OpenPort } from './open-ports.ts';
import type { Vtpm } from './vtpm.ts';

const TEE_PORT = 4051;
const GUEST_CID = 7;
const CPUS = 2;
const MEMORY_MB = 2048;
const START_MS = 30_000;
/** What Compute Engine gives a guest to shut down before it takes the power. */
const SHUTDOWN_MS = 90_000;
/** Firmware that starts the kernel, and neither has a boot menu nor knows TPMs. */
const FIRMWARE = 'qboot.rom';

export interface GceMachineOptions {
  /** For sockets and files of one boot. */
  readonly folder: string;
  /** Name of the instance, which the certificate of its vTPM bears. */
  readonly name: string;
  /** In the order in which they are attached; the first one is booted. */
  readonly disks: readonly string[];
  readonly vtpm: Vtpm;
  readonly gcp: SimulatedGcp;
  readonly platform: SimulatedPlatform;
  /** Address of the instance on this host. */
  readonly address: string | undefined;
  readonly ports: readonly OpenPort[];
  readonly onConsole: (text: string) => void;
  /** It ended without having been switched off. */
  readonly onEnd: (how: 'reset' | 'shutdown' | 'failure') => void;
}

export interface GceMachine {
  /** Ports that this host reaches from now on. */
  setPorts(ports: readonly OpenPort[]): Promise<void>;
  /** Presses its power button, as Compute Engine stops machines; takes its power if it has not shut down in time. */
  shutDown(): Promise<void>;
  /** Takes its power; what it was about to write is lost. */
  powerOff(): Promise<void>;
}

/** Boots a machine; returns when its kernel is entered. @throws Error when its disk cannot be booted */
export async function startGceMachine(options: GceMachineOptions): Promise<GceMachine> {
  const { folder, name, vtpm, gcp, platform, address } = options;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const { image, files } = gceImageOf(await readBootDisk(options.disks[0] ?? ''));
  const kernel = { kernel: files.kernel, initrd: files.initrd } as const;
  for (const [file, bytes] of Object.entries(kernel)) writeFileSync(join(folder, file), bytes);
  const ending: (() => Promise<unknown>)[] = [];
  const endAll = async (): Promise<void> => {
    for (const end of ending.reverse().splice(0)) await end();
  };
  let switchedOff = false;
  try {
    const { eventLog } = await vtpm.powerOn((tpm) => gcp.boot(tpm, { image, machine: name }));
    ending.push(() => vtpm.powerOff());
    const tee = await tsmEndpoint(platform, {
      socketPath: join(folder, `vm.vsock_${TEE_PORT}`),
      image: 'gce',
    });
    ending.push(() => tee.close());
    const transport = vsockTransport(false);
    const run = { dir: folder, cid: GUEST_CID, hostPorts: [] };
    for (const { command } of transport.programs(run)) {
      const [program, ...args] = command as [string, ...string[]];
      const child = start(program, args);
      ending.push(() => end(child));
    }
    const vsock = transport.device(run);
    if (vsock.kind !== 'vhost-user') throw new Error('Machines here need vhost-device-vsock');
    await untilThere(vsock.socket);
    const commandLine = new TextDecoder().decode(files.commandLine).replace(/\0.*$/s, '');
    const qemu = start('qemu-system-x86_64', [
      ...qemuArguments(options, { commandLine, tpm: vtpm.control, vsock: vsock.socket }),
      '-S',
    ]);
    ending.push(() => end(qemu));
    let how: 'reset' | 'shutdown' | 'failure' = 'failure';
    let complaint = '';
    qemu.stdout?.on('data', (chunk: Buffer) => options.onConsole(chunk.toString('utf8')));
    qemu.stderr?.on('data', (chunk: Buffer) => {
      complaint = `${complaint}${chunk.toString('utf8')}`.slice(-4096);
    });
    const isRunning = (): boolean => qemu.exitCode === null && qemu.signalCode === null;
    const qmp = await QmpClient.open(
      join(folder, 'qmp'),
      ({ name: event, data }) => {
        if (event === 'SHUTDOWN') how = data['reason'] === 'guest-reset' ? 'reset' : 'shutdown';
      },
      isRunning,
    ).catch((error: Error) => {
      throw new Error(`${error.message}: ${complaint}`);
    });
    const guest = await GuestDebugger.open(join(folder, 'gdb'));
    await handOverLog(guest, eventLog);
    await guest.detach();
    qemu.once('exit', () => {
      qmp.close();
      if (switchedOff) return;
      if (complaint !== '') process.stderr.write(`${name}: ${complaint}`);
      void endAll().then(() => options.onEnd(how));
    });
    let forwarded = options.ports;
    return {
      setPorts: async (ports) => {
        if (address === undefined) return;
        const has = (all: readonly OpenPort[], one: OpenPort): boolean =>
          all.some(({ protocol, port }) => protocol === one.protocol && port === one.port);
        const command = async (line: string): Promise<void> => {
          await qmp.command('human-monitor-command', { 'command-line': line });
        };
        for (const one of forwarded)
          if (!has(ports, one)) await command(`hostfwd_remove net0 ${one.protocol}:${address}:${one.port}`);
        for (const one of ports)
          if (!has(forwarded, one)) await command(`hostfwd_add net0 ${forward(address, one)}`);
        forwarded = ports;
      },
      shutDown: async () => {
        switchedOff = true;
        if (isRunning()) {
          const ended = new Promise((resolve) => qemu.once('exit', resolve));
          await qmp.command('system_powerdown').catch(() => undefined);
          await Promise.race([ended, sleep(SHUTDOWN_MS, undefined, { ref: false })]);
        }
        await endAll();
      },
      powerOff: async () => {
        switchedOff = true;
        await endAll();
      },
    };
  } catch (error) {
    switchedOff = true;
    await endAll();
    throw error;
  }
}

function qemuArguments(
  { folder, disks, address, ports }: GceMachineOptions,
  at: { readonly commandLine: string; readonly tpm: string; readonly vsock: string },
): string[] {
  const socket = (id: string, path: string, more = ''): string[] => [
    ...['-chardev', `socket,id=${id},path=${path}${more}`],
  ];
  const forwards = address === undefined ? [] : ports.map((one) => `,hostfwd=${forward(address, one)}`);
  return [
    ...processorArguments('tcg'),
    ...['-smp', String(CPUS), '-m', `${MEMORY_MB}M`],
    ...['-object', `memory-backend-memfd,id=mem0,size=${MEMORY_MB}M,share=on`],
    ...['-machine', 'q35,memory-backend=mem0,hpet=off', '-nodefaults', '-no-user-config', '-display', 'none'],
    ...['-no-reboot', '-chardev', 'stdio,id=com0,signal=off', '-serial', 'chardev:com0'],
    ...['-qmp', `unix:${join(folder, 'qmp')},server=on,wait=off`],
    ...socket('gdb', join(folder, 'gdb'), ',server=on,wait=off'),
    ...['-gdb', 'chardev:gdb', '-bios', FIRMWARE],
    ...['-smbios', 'type=1,manufacturer=Google,product=Google Compute Engine'],
    ...['-kernel', join(folder, 'kernel'), '-initrd', join(folder, 'initrd'), '-append', at.commandLine],
    // One controller for all disks, each a namespace, as C3 machines have it.
    ...['-device', 'nvme,id=nvme0,serial=nvme_card-pd'],
    ...disks.flatMap((path, i) => [
      ...['-drive', `if=none,id=disk${i},format=raw,discard=unmap,file=${path}`],
      ...['-device', `nvme-ns,drive=disk${i},bus=nvme0,nsid=${i + 1}`],
    ]),
    ...['-netdev', `user,id=net0${forwards.join('')}`, '-device', 'virtio-net-pci,netdev=net0,romfile='],
    ...socket('tpm', at.tpm),
    ...['-tpmdev', 'emulator,id=tpm0,chardev=tpm', '-device', 'tpm-crb,tpmdev=tpm0'],
    ...socket('vsock', at.vsock),
    ...['-device', 'vhost-user-vsock-pci,chardev=vsock'],
  ];
}

function forward(address: string, { protocol, port }: OpenPort): string {
  return `${protocol}:${address}:${port}-:${port}`;
}

function start(program: string, args: readonly string[]): ChildProcess {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  endWithTest(child);
  child.once('error', (error) => process.stderr.write(`${program}: ${error.message}\n`));
  if (program !== 'qemu-system-x86_64') {
    child.stdout?.resume();
    child.stderr?.resume();
  }
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

async function untilThere(path: string): Promise<void> {
  const deadline = Date.now() + START_MS;
  for (;;) {
    const isThere = await access(path).then(
      () => true,
      () => false,
    );
    if (isThere) return;
    if (Date.now() > deadline) throw new Error(`${path} does not appear`);
    await sleep(20);
  }
}
