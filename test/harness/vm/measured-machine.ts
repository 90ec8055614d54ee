/**
 * Our disk, boot stub and kernel, started by the image's firmware with a software TPM. In the place of the image's
 * initramfs there is one that prints what was measured and switches the machine off: a boot takes seconds, and shows
 * what the firmware, the stub and the kernel do with a disk that somebody changed.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readUki } from '@dstack-cloud/attestation';
import { DISK, readImage, type Stub, writeCpio, writeFat32, writeUki } from '@dstack-cloud/os-image';
import { findProgram } from '@dstack-cloud/test/requires';
import { processorArguments } from '@dstack-cloud/vmm';
import { endWithTest } from './end-with-test.ts';

const MIB = 1024 * 1024;
const ESP_AT = MIB;
const ESP_BYTES = 64 * MIB;
const SECTOR = 512;
const PAGE = 4096;
const BOOT_MS = 300_000;
const TOOL_MS = 60_000;
const UKI_PATH = 'EFI/BOOT/BOOTX64.EFI';
/** Programs without which no such machine can be started. */
export const MEASURED_MACHINE_PROGRAMS: readonly string[] = [
  'qemu-system-x86_64',
  'swtpm',
  'swtpm_setup',
  'busybox',
];

const INIT = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs devtmpfs /dev
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t securityfs securityfs /sys/kernel/security
i=0
while [ $i -lt 24 ]; do
  echo "@pcr $i $($b cat /sys/class/tpm/tpm0/pcr-sha256/$i)"
  i=$((i + 1))
done
echo "@cmdline $($b cat /proc/cmdline)"
echo "@files $($b find / -xdev -type f | $b sort | $b tr '\\n' ' ')"
echo "@log"
$b base64 /sys/kernel/security/tpm0/binary_bios_measurements
echo "@end"
$b poweroff -f
`;

/** What the guest saw. */
export interface MeasuredBoot {
  /** SHA-256 bank, by PCR, lower-case hex. */
  readonly pcrs: readonly string[];
  readonly commandLine: string;
  /** Files of the initramfs. */
  readonly files: string;
  /** Contents of binary_bios_measurements. */
  readonly log: Uint8Array;
}

/** A boot that ended without the guest's word. */
export class NoBoot extends Error {
  readonly console: string;
  constructor(console: string) {
    super(`The guest did not print what was measured; the end of its console: ${console.slice(-2000)}`);
    this.console = console;
  }
}

export interface MeasuredMachine {
  /** The image's own command line. */
  readonly commandLine: string;
  /** A unified kernel image of this image's stub and kernel; with another command line where one is given. */
  uki(commandLine?: string): Uint8Array;
  /**
   * One boot from power-on.
   * @param uki what lies at the place of the image's
   * @param beside further files of the EFI system partition
   * @throws NoBoot with what the console showed
   */
  boot(
    uki: Uint8Array,
    beside?: Readonly<Record<string, Uint8Array>>,
    qemuArguments?: readonly string[],
  ): Promise<MeasuredBoot>;
}

/** @param folder for this machine's files @param image folder of a built image */
export async function measuredMachine(folder: string, image: string): Promise<MeasuredMachine> {
  const { commandLine, kernel, firmware } = await readImage(image);
  const stub = stubOf(new Uint8Array(readFileSync(join(image, 'uki.efi'))));
  const parts = { stub, osRelease: new TextEncoder().encode('ID=test\n'), initrd: initramfs() };
  const kernelBytes = new Uint8Array(readFileSync(join(image, kernel)));
  mkdirSync(folder, { recursive: true });
  const tpm = join(folder, 'tpm');
  mkdirSync(tpm);
  const setup = ['--tpm2', '--tpmstate', tpm, '--overwrite', '--pcr-banks', 'sha256,sha384'];
  execFileSync('swtpm_setup', setup, { stdio: 'ignore', timeout: TOOL_MS });
  const disk = join(folder, 'disk.raw');
  copyFileSync(join(image, 'disk.raw'), disk);
  return {
    commandLine,
    uki: (line = commandLine) => writeUki({ ...parts, kernel: kernelBytes, commandLine: line }),
    boot: async (uki, beside = {}, qemuArguments = []) => {
      writeEsp(disk, { [UKI_PATH]: uki, ...beside });
      const control = join(folder, 'tpm.sock');
      return readConsole(
        await withTpm(tpm, control, () =>
          run(folder, join(image, firmware ?? 'ovmf.fd'), disk, control, qemuArguments),
        ),
      );
    },
  };
}

/** The compiled stub of a unified kernel image of ours: code up to a whole page, then its data. */
function stubOf(uki: Uint8Array): Stub {
  const { sections } = readUki(uki);
  const [code, data] = [sections.get('.text'), sections.get('.data')];
  if (code === undefined || data === undefined)
    throw new Error('The unified kernel image has no stub of ours');
  const dataStart = Math.ceil(code.length / PAGE) * PAGE;
  const program = new Uint8Array(dataStart + data.length);
  program.set(code);
  program.set(data, dataStart);
  const view = new DataView(uki.buffer, uki.byteOffset);
  const optional = view.getUint32(0x3c, true) + 24;
  const [entry, base] = [view.getUint32(optional + 16, true), view.getUint32(optional + 20, true)];
  return { program, dataStart, entry: entry - base };
}

function initramfs(): Uint8Array {
  const folders = ['bin', 'dev', 'proc', 'sys'].map(
    (path) => ({ path, kind: 'directory', mode: 0o755 }) as const,
  );
  const busybox = new Uint8Array(readFileSync(findProgram('busybox') ?? 'busybox'));
  return writeCpio([
    ...folders,
    { path: 'bin/busybox', kind: 'file', mode: 0o755, data: busybox },
    { path: 'init', kind: 'file', mode: 0o755, data: new TextEncoder().encode(INIT) },
  ]);
}

function writeEsp(disk: string, files: Readonly<Record<string, Uint8Array>>): void {
  const volume = writeFat32({
    size: ESP_BYTES,
    label: DISK.espLabel,
    volumeId: DISK.espVolumeId,
    hiddenSectors: ESP_AT / SECTOR,
    files: Object.entries(files).map(([path, data]) => ({ path, data })),
  });
  const file = openSync(disk, 'r+');
  try {
    writeSync(file, volume, 0, volume.length, ESP_AT);
  } finally {
    closeSync(file);
  }
}

async function withTpm<T>(state: string, control: string, use: () => Promise<T>): Promise<T> {
  rmSync(control, { force: true });
  const args = ['socket', '--tpm2', '--tpmstate', `dir=${state}`, '--ctrl', `type=unixio,path=${control}`];
  const tpm = spawn('swtpm', args, { stdio: 'ignore' });
  endWithTest(tpm);
  const ended = new Promise((resolve) => tpm.once('close', resolve));
  try {
    const deadline = Date.now() + TOOL_MS;
    while (!existsSync(control)) {
      if (tpm.exitCode !== null || Date.now() > deadline) throw new Error('swtpm did not start');
      await sleep(10);
    }
    return await use();
  } finally {
    tpm.kill('SIGKILL');
    await ended;
  }
}

/** The console of one boot. A machine that says something final, or nothing for too long, is ended. */
async function run(
  folder: string,
  firmware: string,
  disk: string,
  control: string,
  more: readonly string[],
): Promise<string> {
  const child: ChildProcess = spawn(
    'qemu-system-x86_64',
    [
      ...processorArguments('tcg'),
      ...['-smp', '2', '-m', '1024', '-machine', 'q35'],
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
      ...['-bios', firmware, '-chardev', `socket,id=tpm,path=${control}`],
      ...['-tpmdev', 'emulator,id=tpm0,chardev=tpm', '-device', 'tpm-crb,tpmdev=tpm0'],
      ...['-drive', `if=none,id=boot,format=raw,readonly=on,file=${disk}`],
      ...['-device', 'virtio-blk-pci,drive=boot,bootindex=1', ...more],
    ],
    { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  endWithTest(child);
  let output = '';
  const collect = (bytes: Buffer): void => {
    output += bytes.toString('latin1');
    // The stub waits a moment with its word on the console; the firmware then looks for other things to boot.
    if (/dstack: [^\r\n]+\r?\n/.test(output) || output.includes('No bootable option')) child.kill('SIGKILL');
  };
  child.stdout?.on('data', collect);
  child.stderr?.on('data', collect);
  const late = setTimeout(() => child.kill('SIGKILL'), BOOT_MS);
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => resolve());
  }).finally(() => clearTimeout(late));
  return output;
}

function readConsole(output: string): MeasuredBoot {
  const log = /^@log\r?\n([A-Za-z0-9+/=\s]*)^@end\r?$/m.exec(output)?.[1];
  if (log === undefined) throw new NoBoot(output);
  const line = (name: string): string => new RegExp(`^@${name} (.*?)\\s*$`, 'm').exec(output)?.[1] ?? '';
  const pcrs: string[] = [];
  for (const [, index, value] of output.matchAll(/^@pcr (\d+) ([0-9A-F]{64})\r?$/gm))
    pcrs[Number(index)] = value!.toLowerCase();
  return {
    pcrs,
    commandLine: line('cmdline'),
    files: line('files'),
    log: new Uint8Array(Buffer.from(log, 'base64')),
  };
}
