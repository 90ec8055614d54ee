/** One boot of a unified kernel image by real firmware with a software TPM, and what the guest reads there. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { findProgram } from '@dstack-cloud/test/requires';

const STUB = '/usr/lib/systemd/boot/efi/linuxx64.efi.stub';
/** The build in 2 MB of flash starts in half the time of the one in 4 MB. */
const FIRMWARE = '/usr/share/OVMF/OVMF_CODE.fd';
const VARIABLES = '/usr/share/OVMF/OVMF_VARS.fd';
const PROGRAMS = [
  ...['qemu-system-x86_64', 'swtpm', 'swtpm_setup', 'objdump', 'objcopy', 'sfdisk', 'mkfs.vfat', 'mmd'],
  ...['mcopy', 'busybox'],
];
const PACKAGES =
  'qemu-system-x86 ovmf systemd-boot-efi swtpm swtpm-tools binutils fdisk dosfstools mtools busybox-static';
const KERNEL_HINT =
  'vmlinuz of an unpacked linux-image-*-cloud-amd64.deb as DSTACK_TEST_KERNEL or ~/.cache/dstack-test/vmlinuz';
const PROGRAM_TIMEOUT_MS = 60_000;
const BOOT_TIMEOUT_MS = 90_000;
const TPM_TIMEOUT_MS = 10_000;
const PAGE = 4096;
const MIB = 1024 * 1024;
/** FAT32 needs 65,525 clusters: 62 MiB have them at one sector each. */
const DISK_MIB = 64;
const PCRS = 24;

/** Prints the PCRs of both banks and the boot log, and switches the machine off. */
const INIT = `#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /sys
$b mount -t sysfs sysfs /sys
$b mount -t securityfs securityfs /sys/kernel/security
for bank in sha256 sha384; do
  i=0
  while [ $i -lt ${PCRS} ]; do
    echo "@pcr $bank $i $($b cat /sys/class/tpm/tpm0/pcr-$bank/$i)"
    i=$((i + 1))
  done
done
echo "@log"
$b base64 /sys/kernel/security/tpm0/binary_bios_measurements
echo "@end"
$b poweroff -f
`;

/** What the guest saw. */
export interface MeasuredBoot {
  /** By PCR, lower-case hex. */
  readonly pcrs: Readonly<Record<'sha256' | 'sha384', readonly string[]>>;
  /** Contents of binary_bios_measurements. */
  readonly log: Uint8Array;
}

/** Why no image can be booted here, or undefined. */
export function measuredBootMissing(): string | undefined {
  if (process.arch !== 'x64') return 'the guest runs the busybox of this machine, which is not x86-64';
  const missing = PROGRAMS.filter((program) => findProgram(program) === undefined);
  missing.push(...[STUB, FIRMWARE, VARIABLES].filter((file) => !existsSync(file)));
  if (missing.length > 0) return `${missing.join(', ')} missing; apt-get install ${PACKAGES}`;
  if (findKernel() === undefined) return `no guest kernel; put ${KERNEL_HINT}`;
  // Which sections are measured depends on the version; 252 is the one of the release with this firmware.
  if (!readFileSync(STUB).includes('systemd-stub 252')) return `${STUB} is not of systemd 252`;
  const dynamic = spawnSync('ldd', [program('busybox')], { timeout: PROGRAM_TIMEOUT_MS }).status === 0;
  return dynamic ? 'busybox is not static; apt-get install busybox-static' : undefined;
}

/** A UKI of the guest kernel and an initrd that prints what was measured. */
export function buildUki(commandLine: string): Uint8Array {
  return inDirectory((directory) => {
    const file = (name: string, content: string | Uint8Array): string => {
      writeFileSync(join(directory, name), content);
      return join(directory, name);
    };
    const out = join(directory, 'uki.efi');
    const sections = [
      ['.osrel', file('osrel', 'ID=dstack-test\n')],
      ['.cmdline', file('cmdline', commandLine)],
      ['.initrd', file('initrd', buildInitrd(directory))],
      ['.linux', findKernel()!],
    ] as const;
    let address = endOfStub();
    const args = sections.flatMap(([name, path]) => {
      const at = address;
      address = alignToPage(at + readFileSync(path).length);
      return ['--add-section', `${name}=${path}`, '--change-section-vma', `${name}=0x${at.toString(16)}`];
    });
    run('objcopy', [...args, STUB, out]);
    return new Uint8Array(readFileSync(out));
  });
}

/** Boots the image once, to its end. */
export async function bootUki(uki: Uint8Array): Promise<MeasuredBoot> {
  const directory = mkdtempSync(join(tmpdir(), 'boot-uki-'));
  try {
    writeDisk(directory, uki);
    return readOutput(await runMachine(directory));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function findKernel(): string | undefined {
  const given = process.env['DSTACK_TEST_KERNEL'];
  if (given) return existsSync(given) ? given : undefined;
  const installed = existsSync('/boot')
    ? readdirSync('/boot').filter((name) => /^vmlinuz-.*-cloud-amd64$/.test(name))
    : [];
  return [
    join(homedir(), '.cache/dstack-test/vmlinuz'),
    ...installed.map((name) => join('/boot', name)),
  ].find((path) => existsSync(path));
}

function buildInitrd(directory: string): Uint8Array {
  const root = join(directory, 'root');
  mkdirSync(join(root, 'bin'), { recursive: true });
  copyFileSync(program('busybox'), join(root, 'bin/busybox'));
  writeFileSync(join(root, 'init'), INIT, { mode: 0o755 });
  const names = '.\nbin\nbin/busybox\ninit\n';
  return run('busybox', ['cpio', '-o', '-H', 'newc'], { cwd: root, input: names });
}

/** First free page after the stub's sections, in the lines ` 0 .text SIZE VMA ...` of objdump. */
function endOfStub(): number {
  const table = new TextDecoder().decode(run('objdump', ['-h', STUB]));
  const ends = [...table.matchAll(/^\s*\d+\s+\S+\s+([0-9a-f]{8})\s+([0-9a-f]{16})\s/gm)].map(
    ([, size, address]) => Number.parseInt(size!, 16) + Number.parseInt(address!, 16),
  );
  return alignToPage(Math.max(...ends));
}

/** GPT with one EFI system partition in FAT32, without root and loop devices. */
function writeDisk(directory: string, uki: Uint8Array): void {
  const disk = join(directory, 'disk.img');
  const image = join(directory, 'uki.efi');
  writeFileSync(image, uki);
  writeFileSync(disk, '');
  truncateSync(disk, DISK_MIB * MIB);
  const blocks = (DISK_MIB - 2) * 1024;
  run('sfdisk', ['-q', disk], { input: `label: gpt\nstart=2048, size=${2 * blocks}, type=uefi\n` });
  run('mkfs.vfat', ['-F', '32', '-s', '1', '--offset', '2048', disk, `${blocks}`]);
  run('mmd', ['-i', `${disk}@@1M`, '::/EFI', '::/EFI/BOOT']);
  run('mcopy', ['-i', `${disk}@@1M`, image, '::/EFI/BOOT/BOOTX64.EFI']);
}

/** The guest's output on its serial line. */
async function runMachine(directory: string): Promise<string> {
  const control = join(directory, 'tpm');
  const state = join(directory, 'state');
  mkdirSync(state);
  run('swtpm_setup', ['--tpm2', '--tpmstate', state, '--overwrite', '--pcr-banks', 'sha256,sha384']);
  const tpm = spawn(
    program('swtpm'),
    ['socket', '--tpm2', '--tpmstate', `dir=${state}`, '--ctrl', `type=unixio,path=${control}`],
    { stdio: 'ignore' },
  );
  const tpmEnded = new Promise((resolve) => tpm.once('close', resolve));
  try {
    const deadline = Date.now() + TPM_TIMEOUT_MS;
    while (!existsSync(control)) {
      if (tpm.exitCode !== null || Date.now() > deadline) throw new Error('swtpm did not start');
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return await runQemu(directory, control);
  } finally {
    tpm.kill('SIGKILL');
    await tpmEnded;
  }
}

async function runQemu(directory: string, tpm: string): Promise<string> {
  const variables = join(directory, 'vars.fd');
  copyFileSync(VARIABLES, variables);
  const child = spawn(
    program('qemu-system-x86_64'),
    [
      ...['-accel', 'tcg', '-cpu', 'max', '-machine', 'q35', '-m', '512', '-nodefaults', '-no-user-config'],
      ...['-display', 'none', '-no-reboot', '-serial', 'stdio'],
      ...['-drive', `if=pflash,format=raw,unit=0,readonly=on,file=${FIRMWARE}`],
      ...['-drive', `if=pflash,format=raw,unit=1,file=${variables}`],
      ...['-chardev', `socket,id=t,path=${tpm}`, '-tpmdev', 'emulator,id=tpm0,chardev=t'],
      ...['-device', 'tpm-crb,tpmdev=tpm0'],
      ...['-drive', `if=none,id=d0,format=raw,file=${join(directory, 'disk.img')}`],
      ...['-device', 'virtio-blk-pci,drive=d0,bootindex=1'],
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('latin1').on('data', (text: string) => {
      output += text;
    });
  }
  const late = setTimeout(() => child.kill('SIGKILL'), BOOT_TIMEOUT_MS);
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', () => resolve());
  }).finally(() => clearTimeout(late));
  return output;
}

function readOutput(output: string): MeasuredBoot {
  const log = /^@log\r?\n([A-Za-z0-9+/=\s]*)^@end\r?$/m.exec(output)?.[1];
  if (log === undefined) {
    throw new Error(`The guest did not print what was measured; its last output: ${output.slice(-2000)}`);
  }
  const bank = (name: string): string[] =>
    [...output.matchAll(/^@pcr (\w+) \d+ ([0-9A-F]+)\r?$/gm)]
      .filter((match) => match[1] === name)
      .map((match) => match[2]!.toLowerCase());
  return {
    pcrs: { sha256: bank('sha256'), sha384: bank('sha384') },
    log: new Uint8Array(Buffer.from(log, 'base64')),
  };
}

function run(
  name: string,
  args: readonly string[],
  options: { cwd?: string; input?: string } = {},
): Uint8Array {
  return execFileSync(program(name), args, {
    ...options,
    stdio: ['pipe', 'pipe', 'ignore'],
    timeout: PROGRAM_TIMEOUT_MS,
    maxBuffer: DISK_MIB * MIB,
  });
}

function program(name: string): string {
  const path = findProgram(name);
  if (path === undefined) throw new Error(`${name} is not installed`);
  return path;
}

function inDirectory<T>(use: (directory: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), 'build-uki-'));
  try {
    return use(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function alignToPage(address: number): number {
  return Math.ceil(address / PAGE) * PAGE;
}
