/**
 * A machine of our OS image, from power-on, without KVM: until the agent answers, until the application does, beside a bare boot
 * of the same kernel that switches off at its first program. What else runs on this machine decides a good part of it.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readImage, writeCpio } from '@dstack-cloud/os-image';
import { findProgram } from '@dstack-cloud/test/requires';
import { freePort, processorArguments } from '@dstack-cloud/vmm';
import { busyboxImagesDisk } from '../harness/busybox-image.ts';
import { countingApp, pageOf } from '../harness/vm/counting-app.ts';
import { devImage } from '../harness/vm/dev-image.ts';
import { emptySysConfig } from '../harness/vm/empty-sys-config.ts';
import { bootUntil, missingForVm, VM_CPUS, VM_MEMORY_MB, type Vm } from '../harness/vm/machine.ts';
import type { Result } from './result.ts';

const BOOT_MS = 900_000;
const MB = 1_000_000;

const POWEROFF = `#!/bin/busybox sh
/bin/busybox poweroff -f
`;

/** A disk as the guest makes it, in memory: what one opening of it takes. */
const LUKS_OPEN = [
  'truncate -s 32M /tmp/luks',
  'echo -n key > /tmp/key',
  'cryptsetup luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /tmp/key /tmp/luks',
  'start=$(date +%s%N)',
  'cryptsetup open --test-passphrase --key-file /tmp/key /tmp/luks',
  'echo "luks: $(( ($(date +%s%N) - start) / 1000000 )) END"',
].join('; ');
const MEMORY = `echo "used: $(free -m | sed -n 's/^Mem: *[0-9]* *\\([0-9]*\\).*/\\1/p') END"`;

export async function run(): Promise<Result[]> {
  const missing = [...missingForVm(), ...(findProgram('busybox') === undefined ? ['busybox'] : [])];
  if (missing.length > 0) throw new Error(`Not installed here: ${missing.join(', ')}`);
  const built = await devImage();
  if ('missing' in built) throw new Error(built.missing);
  const directory = mkdtempSync(join(tmpdir(), 'dstack-bench-vm-'));
  try {
    const bare = await bareBoot(directory, built.folder);
    return [
      figure('image-mb', imageBytes(built.folder) / MB, 'MB', 150),
      figure('bare-boot-s', bare, 's'),
      ...(await wholeBoot(directory, built.folder, bare)),
    ];
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function figure(name: string, value: number, unit: Result['unit'], atMost?: number): Result {
  return { suite: 'vm', name, value, unit, n: 1, ...(atMost === undefined ? {} : { goal: { atMost } }) };
}

function imageBytes(folder: string): number {
  return statSync(join(folder, 'rootfs.img.parted.verity')).size;
}

/** Seconds of the kernel alone. */
async function bareBoot(directory: string, folder: string): Promise<number> {
  const { kernel } = await readImage(folder);
  const initrd = join(directory, 'bare.cpio');
  const busybox = new Uint8Array(readFileSync(findProgram('busybox') ?? 'busybox'));
  writeFileSync(
    initrd,
    writeCpio([
      { path: 'bin', kind: 'directory', mode: 0o755 },
      { path: 'bin/busybox', kind: 'file', mode: 0o755, data: busybox },
      { path: 'init', kind: 'file', mode: 0o755, data: new TextEncoder().encode(POWEROFF) },
    ]),
  );
  const args = [
    ...processorArguments('tcg'),
    ...['-smp', String(VM_CPUS), '-m', `${VM_MEMORY_MB}M`],
    ...['-machine', 'q35', '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-kernel', join(folder, kernel), '-initrd', initrd, '-append', 'quiet panic=1 no_timer_check'],
  ];
  const started = performance.now();
  const child = spawn('qemu-system-x86_64', args, { stdio: 'ignore', timeout: BOOT_MS });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw new Error(`The bare boot ended with status ${code}`);
  return (performance.now() - started) / 1000;
}

async function wholeBoot(directory: string, image: string, bare: number): Promise<Result[]> {
  const seedFile = join(directory, 'seed');
  writeFileSync(seedFile, randomBytes(32));
  const [web, agent] = [await freePort(), await freePort()];
  const options = {
    ...{ folder: join(directory, 'machine'), image, seedFile },
    imagesDisk: await busyboxImagesDisk(directory),
    ports: [
      { host: web, guest: 8080 },
      { host: agent, guest: 8090 },
    ],
    shared: { 'app-compose.json': countingApp('none'), '.sys-config.json': emptySysConfig() },
  };
  const { vm } = await bootUntil(options, 'answer of the agent', () => pageOf(agent), BOOT_MS);
  const toAgent = vm.elapsed() / 1000;
  try {
    const peer = { name: 'bare-boot-s', value: bare };
    await vm.until('answer of the application', () => pageOf(web), BOOT_MS);
    const toApp = vm.elapsed() / 1000;
    const memory = await asked(vm, MEMORY, /used: (\d+) END/);
    const luks = await asked(vm, LUKS_OPEN, /luks: (\d+) END/);
    return [
      { ...figure('boot-to-agent-s', toAgent, 's', 35), peer },
      { ...figure('boot-to-app-s', toApp, 's', 50), peer },
      figure('guest-rss-mb', memory, 'MB', 400),
      figure('luks-open-ms', luks, 'ms'),
    ];
  } finally {
    await vm.kill();
  }
}

/** A number that the shell of a development image prints. */
async function asked(vm: Vm, command: string, pattern: RegExp): Promise<number> {
  vm.type(`${command}\n`);
  return Number((await vm.untilSerial(pattern))[1]);
}
