/**
 * What a host can do to the disks of a machine of our image, tried in one that really booted: the code that opens the data
 * disk runs in it, over several disks, and the kernel checks the root while it runs.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bundleText } from '@dstack-cloud/scripts/bundle';
import { LUKS_COPY, rewriteLuksHeader } from '@dstack-cloud/test/luks';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { repository } from '../harness/run-command.ts';
import { devImage } from '../harness/vm/dev-image.ts';
import { missingForVm, startVm, type Vm } from '../harness/vm/machine.ts';

/** A boot to a shell takes half a minute on a quiet machine without KVM, and several minutes on a loaded one. */
const TEST_MS = 1_200_000;
const STEP_MS = 300_000;
const MIB = 1024 * 1024;
const DISK_BYTES = 128 * MIB;
const KEY = 1;
const OTHER_KEY = 2;
/** How cryptsetup is given the key that consists of this byte. */
const passphrase = (byte: number): string => Buffer.alloc(32, byte).toString('hex');

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vm-disk-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Bytes of a file, changed in place as the host does it under a running machine. */
function change(path: string, at: number, length: number, how: (bytes: Uint8Array) => Uint8Array): void {
  const file = openSync(path, 'r+');
  try {
    const bytes = new Uint8Array(length);
    readSync(file, bytes, 0, length, at);
    const changed = how(bytes);
    writeSync(file, changed, 0, changed.length, at);
  } finally {
    closeSync(file);
  }
}

const changeHeader = (path: string, how: (json: string) => string): void =>
  change(path, 0, 2 * LUKS_COPY, (header) => rewriteLuksHeader(header, how));

const digest = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

const cryptsetup = (args: readonly string[], byte = KEY): void => {
  execFileSync('cryptsetup', args, { input: passphrase(byte), stdio: ['pipe', 'ignore', 'ignore'] });
};

/** The kernel's cipher that encrypts nothing, for the data alone: the key still opens the disk. */
const nullCipher = (json: string): string =>
  json.replace(/("segments".*?"encryption":)"aes-xts-plain64"/s, '$1"cipher_null-ecb"');

interface Attack {
  /** What the host makes of a copy of the machine's disk. */
  readonly attack: (disk: string) => void;
  /** What the guest says of it. */
  readonly says: RegExp;
  readonly key?: number;
  readonly bytes?: number;
}

const ATTACKS: Readonly<Record<string, Attack>> = {
  'null-cipher': {
    attack: (disk) => {
      changeHeader(disk, nullCipher);
      // The attack is real: to cryptsetup this is a disk that the machine's key opens.
      cryptsetup(['open', '--test-passphrase', '--key-file', '-', disk]);
    },
    says: /LUKS header has metadata that this guest did not make: segments\.0\.encryption: .*; it is not opened/,
  },
  'second-key': {
    attack: (disk) => {
      const other = join(directory, 'key-of-the-host');
      writeFileSync(other, 'host');
      const derivation = ['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000'];
      cryptsetup(['luksAddKey', '--batch-mode', ...derivation, '--key-file', '-', disk, other]);
    },
    says: /metadata that this guest did not make: .*keyslots/,
  },
  token: {
    attack: (disk) => cryptsetup(['token', 'add', '--key-description', 'x', '--token-id', '0', disk]),
    says: /metadata that this guest did not make: .*tokens/,
  },
  'wrong-offset': {
    attack: (disk) =>
      changeHeader(disk, (json) => json.replace('"offset":"16777216"', '"offset":"33554432"')),
    says: /metadata that this guest did not make: segments\.0\.offset/,
  },
  'copies-differ': {
    attack: (disk) =>
      change(disk, 0, 2 * LUKS_COPY, (header) => {
        const changed = rewriteLuksHeader(header, (json) =>
          json.replace('"iterations":1000', '"iterations":1001'),
        );
        changed.set(header.subarray(LUKS_COPY), LUKS_COPY);
        return changed;
      }),
    says: /two copies that differ in their json; it is not opened/,
  },
  'other-instance': {
    attack: () => undefined,
    key: OTHER_KEY,
    says: /does not open with the key of this machine: it belongs to another instance or application; attach its own disk/,
  },
  smaller: {
    attack: (disk) => truncateSync(disk, DISK_BYTES - 32 * MIB),
    bytes: DISK_BYTES - 32 * MIB,
    says: /smaller than before: its file system needs \d+ bytes and finds \d+; give the disk its former size/,
  },
};

/** Disks whose attack lies in the moment, or that is none. */
const OTHERS = ['swapped', 'unfinished', 'half-finished'];
const path = (name: string): string => join(directory, `${name}.img`);

/** A shell on the console and nothing else: neither the guest nor Docker starts. */
const SHELL_ALONE = 'systemd.unit=dev-shell.service';

async function shell(options: Omit<Parameters<typeof startVm>[0], 'append'>): Promise<Vm> {
  const vm = await startVm({ ...options, append: SHELL_ALONE });
  let typeAgain = 0;
  await vm.until(
    'shell',
    () => {
      // The console keeps what is typed before the shell is there.
      if (Date.now() >= typeAgain) {
        vm.type('echo "in $((6*7))"\n');
        typeAgain = Date.now() + 10_000;
      }
      return /in 42/.test(vm.serial()) || undefined;
    },
    STEP_MS,
  );
  return vm;
}

const needed = ['qemu-system-x86_64', 'apt-get', 'dpkg-deb', 'cryptsetup', ...missingForVm()];
describeWithPrograms('disks', needed, () => {
  test('vm-luks-header-attack: a booted machine refuses each header that a host can write, and leaves the disk as it is', {
    timeout: TEST_MS,
  }, async (context) => {
    const built = await devImage();
    if ('missing' in built) return context.skip(built.missing);
    const program = await bundleText(repository, 'packages/guest-agent/src/test/open-disks.ts');
    const names = [...Object.keys(ATTACKS), ...OTHERS];
    for (const name of names) {
      writeFileSync(path(name), '');
      truncateSync(path(name), ATTACKS[name]?.bytes ?? DISK_BYTES);
    }
    const folder = join(directory, 'machine');
    const vm = await shell({
      folder,
      image: built.folder,
      shared: { 'open.mjs': program },
      dataBytes: DISK_BYTES,
      qemuArguments: names.flatMap((name) => [
        ...['-drive', `if=none,id=${name},format=raw,file=${path(name)}`],
        ...['-device', `virtio-blk-pci,drive=${name},serial=case-${name}`],
      ]),
    });
    try {
      const answer = async (serial: string, key = KEY): Promise<Record<string, unknown>> => {
        const from = vm.serial().length;
        vm.type(`${serial} ${key}\n`);
        const said = new RegExp(`@${serial} (\\{.*\\})\\r?\\n`);
        const found = await vm.until(serial, () => said.exec(vm.serial().slice(from)) ?? undefined, STEP_MS);
        return JSON.parse(found[1]!) as Record<string, unknown>;
      };
      const shared = 'grep -lx shared /sys/class/block/vd*/serial | cut -d/ -f5';
      vm.type(`mkdir /run/t; mount -t vfat -o ro /dev/$(${shared}) /run/t\n`);
      vm.type('/usr/lib/dstack/node /run/t/open.mjs\n');
      await vm.untilSerial(/@ready\r?\n/, STEP_MS);

      // The machine's own disk: made, and opened again.
      const made = { opened: true, cipher: 'aes-xts-plain64', offset: 16 * MIB };
      expect(await answer('data')).toEqual({ ...made, before: null });
      expect(await answer('data')).toEqual({ ...made, before: `key ${KEY}` });

      for (const [name, { attack, says, key }] of Object.entries(ATTACKS)) {
        copyFileSync(join(folder, 'data.img'), path(name));
        attack(path(name));
        const before = digest(path(name));
        const refused = await answer(`case-${name}`, key);
        expect(refused, name).toEqual({ code: 'disk-refused', message: expect.stringMatching(says) });
        expect(digest(path(name)), name).toBe(before);
      }

      // Between check and use: what was checked opens the disk, not what the host wrote after that.
      copyFileSync(join(folder, 'data.img'), path('swapped'));
      const from = vm.serial().length;
      vm.type(`case-swapped ${KEY} pause\n`);
      const after = (pattern: RegExp) => () => pattern.exec(vm.serial().slice(from)) ?? undefined;
      await vm.until('pause', after(/@pause\r?\n/), STEP_MS);
      changeHeader(path('swapped'), nullCipher);
      vm.type('\n');
      const swapped = await vm.until('answer', after(/@case-swapped (\{.*\})\r?\n/), STEP_MS);
      expect(JSON.parse(swapped[1]!)).toEqual({ ...made, before: `key ${KEY}` });
      expect((await answer('case-swapped'))['message']).toMatch(/segments\.0\.encryption/);

      // A power cut before the file system was there, and one while the label that says so was taken away.
      copyFileSync(join(folder, 'data.img'), path('unfinished'));
      cryptsetup(['config', path('unfinished'), '--label', 'dstack-unfinished']);
      copyFileSync(path('unfinished'), path('half-finished'));
      change(join(folder, 'data.img'), 0, LUKS_COPY, (first) => {
        change(path('half-finished'), 0, LUKS_COPY, () => first);
        return first;
      });
      for (const name of ['unfinished', 'half-finished']) {
        expect(await answer(`case-${name}`), name).toEqual({ ...made, before: null });
        expect(await answer(`case-${name}`), name).toEqual({ ...made, before: `key ${KEY}` });
      }
    } finally {
      await vm.kill();
    }
  });

  test('vm-root-bit: one bit of the root changed under a running machine stops it when it is read; before a boot, it does not start', {
    timeout: TEST_MS,
  }, async (context) => {
    const built = await devImage();
    if ('missing' in built) return context.skip(built.missing);
    const image = join(directory, 'image');
    mkdirSync(image);
    const root = join(image, 'rootfs.img.parted.verity');
    for (const name of readdirSync(built.folder))
      if (name !== 'disk.raw') copyFileSync(join(built.folder, name), join(image, name));
    const flip = (at: number): void => change(root, at, 1, (bytes) => bytes.map((byte) => byte ^ 0x10));
    /** The root partition starts after one MiB; this block lies in the middle of the file system. */
    const block = 20_000;
    const at = MIB + block * 4096 + 123;
    const read = `echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/mapper/rootfs of=/run/block bs=4096 skip=${block} count=1 iflag=direct`;
    const vm = await shell({ folder: join(directory, 'root'), image, shared: {} });
    try {
      vm.type(`${read} && echo "read $((40+2))"\n`);
      await vm.untilSerial(/read 42/, STEP_MS);
      flip(at);
      vm.type(`${read} && echo "read $((41+2))"\n`);
      await vm.untilEnd(STEP_MS);
      expect(vm.serial()).toMatch(/verity: .*data block 20000 is corrupted/);
      expect(vm.serial()).toMatch(/Kernel panic - not syncing: dm-verity device corrupted/);
      expect(vm.serial()).not.toContain('read 43');
    } finally {
      await vm.kill();
    }
    // The first block of the file system, which every boot reads.
    flip(at);
    flip(MIB + 20);
    const again = await startVm({ folder: join(directory, 'root'), image, shared: {}, append: SHELL_ALONE });
    try {
      await again.untilEnd(STEP_MS);
      expect(again.serial()).toMatch(/Kernel panic - not syncing: dm-verity device corrupted/);
      expect(again.serial()).not.toContain('dev#');
    } finally {
      await again.kill();
    }
  });
});
