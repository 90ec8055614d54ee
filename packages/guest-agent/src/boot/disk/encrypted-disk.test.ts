/** Attacks of a host on the encrypted disk, with the real cryptsetup on files; only the kernel's part is left out. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { utf8 } from '@dstack-cloud/encoding';
import { LUKS_COPY } from '@dstack-cloud/test/luks';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openEncryptedDisk } from './encrypted-disk.ts';
import { LUKS_DATA_OFFSET } from './luks-header.ts';
import type { MachineHost } from './machine-host.ts';
import type { DiskKey } from './storage.ts';

const MIB = 1024 * 1024;
const KEY = new Uint8Array(32).fill(1);
const OTHER_KEY = new Uint8Array(32).fill(2);
const log = pino({ level: 'silent' });

describeWithPrograms('the data disk', ['cryptsetup'], () => {
  let folder: string;
  let device: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'disk-'));
    device = join(folder, 'disk');
    writeFileSync(device, '');
    truncateSync(device, 64 * MIB);
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  /** A machine whose programs are real; opening a disk ends where the kernel would take over. */
  function machine(between: (program: string, args: readonly string[]) => void = () => undefined) {
    const ran: string[][] = [];
    const host: Pick<MachineHost, 'run' | 'read'> = {
      run: async (program, args, input) => {
        between(program, args);
        ran.push([program, ...args]);
        // The opened disk, which is not there.
        if (program === 'sync') return { code: 0, stdout: '', stderr: '' };
        const opens = program === 'cryptsetup' && args[0] === 'open';
        const actual = opens ? [...args.slice(0, -1), '--test-passphrase'] : [...args];
        const { status, stdout, stderr } = spawnSync(program, actual, { input: input ?? '' });
        return { code: status ?? -1, stdout: stdout.toString(), stderr: stderr.toString() };
      },
      read: async (path, offset, length) => bytesOf(path, offset, length),
    };
    const open = (...keys: readonly (Uint8Array | DiskKey)[]) => {
      const given = keys.map((key) => (key instanceof Uint8Array ? { key, name: undefined } : key));
      const scratch = join(folder, 'scratch');
      const named = given.length === 0 ? [{ key: KEY, name: undefined }] : given;
      return openEncryptedDisk({ host: host as MachineHost, device, keys: named, scratch, log });
    };
    return { open, ran };
  }
  const bytesOf = (path: string, offset: number, length: number): Uint8Array => {
    const file = openSync(path, 'r');
    try {
      const bytes = new Uint8Array(length);
      return bytes.subarray(0, readSync(file, bytes, 0, length, offset));
    } finally {
      closeSync(file);
    }
  };
  const put = (bytes: Uint8Array, offset: number): void => {
    const file = openSync(device, 'r+');
    writeSync(file, bytes, 0, bytes.length, offset);
    closeSync(file);
  };
  /** A finished disk of this guest. */
  const finished = async (): Promise<void> => {
    await machine().open();
    execFileSync('cryptsetup', ['config', device, '--label', '']);
  };
  const start = () => bytesOf(device, 0, LUKS_DATA_OFFSET);
  /** The header area is too large to be compared byte by byte with a diff. */
  const sameAs = (before: Uint8Array) => Buffer.compare(start(), before) === 0;

  it('is made when it is empty, opens with its key, and is not made again', async () => {
    expect(await machine().open()).toMatchObject({ fresh: true });
    execFileSync('cryptsetup', ['config', device, '--label', '']);
    const before = start();
    const again = machine();
    expect(await again.open()).toMatchObject({ fresh: false });
    expect(again.ran.map(([, command]) => command)).toEqual(['open']);
    expect(sameAs(before)).toBe(true);
  });

  it('opens with the key of the epoch that it was made in; one that is made has the present key, whatever it was before', async () => {
    const finish = (subsystem: string) =>
      execFileSync('cryptsetup', ['config', device, '--label', '', '--subsystem', subsystem]);
    const older: DiskKey = { key: OTHER_KEY, name: { epoch: 3 } };
    const present: DiskKey = { key: KEY, name: { epoch: 5 } };
    expect(await machine().open(older)).toEqual({ fresh: true, keyName: older.name });
    finish('key:3');
    const opened = machine();
    expect(await opened.open(present, older)).toEqual({ fresh: false, keyName: older.name });
    expect(opened.ran.map(([, command]) => command)).toEqual(['open']);
    // The host showed that disk when keys were asked for, and an empty one now.
    put(new Uint8Array(LUKS_DATA_OFFSET), 0);
    const made = machine();
    expect(await made.open(present, older)).toEqual({ fresh: true, keyName: present.name });
    expect(made.ran[0]).toContain('key:5');
    finish('key:5');
    await expect(machine().open(older)).rejects.toMatchObject({ code: 'disk-refused' });
    expect(await machine().open(present)).toMatchObject({ fresh: false });
  });

  it('of another instance is refused and stays as it is', async () => {
    await finished();
    const before = start();
    await expect(machine().open(OTHER_KEY)).rejects.toMatchObject({
      code: 'disk-refused',
      message: expect.stringMatching(/does not open with the key of this machine: it belongs to another/),
    });
    expect(sameAs(before)).toBe(true);
    expect(readdirSync(join(folder, 'scratch'))).toEqual([]);
  });

  it('is complete after a power cut at any write that finishes it', async () => {
    await machine().open();
    const before = start();
    execFileSync('cryptsetup', ['config', device, '--label', '']);
    const after = start();
    // Order and places of what cryptsetup writes: each copy without its checksum, its metadata, its checksum.
    const zeros = new Uint8Array(64);
    const writes = [0, LUKS_COPY].flatMap((at) => {
      const binary = after.slice(at, at + 4096);
      const bare = binary.slice();
      bare.set(zeros, 448);
      return [
        [bare, at],
        [after.slice(at + 4096, at + LUKS_COPY), at + 4096],
        [binary, at],
      ] as const;
    });
    for (let done = 0; done <= writes.length; done++) {
      put(before, 0);
      for (const [bytes, at] of writes.slice(0, done)) put(bytes, at);
      const { open, ran } = machine();
      const { fresh } = await open();
      const did = ran.map(([program, command]) => (program === 'sync' ? program : command));
      // As long as the label is there, there are no data; then nothing is formatted any more.
      expect([done, fresh, did]).toEqual(
        done < 4
          ? [done, true, ['luksFormat', 'open']]
          : [done, false, done < 6 ? ['open', 'sync', 'config', 'sync'] : ['open']],
      );
      if (fresh) continue;
      const again = machine();
      expect(await again.open()).toMatchObject({ fresh: false });
      expect(again.ran.map(([, command]) => command)).toEqual(['open']);
    }
  });

  describe('whose header the host changes between check and use', () => {
    /** What the host would like to have opened: another cipher, and a key of its own. */
    const evil = (): Uint8Array => {
      const path = join(folder, 'evil');
      writeFileSync(path, '');
      truncateSync(path, 64 * MIB);
      const args = [
        'luksFormat',
        '--batch-mode',
        '--type',
        'luks2',
        '--offset',
        '32768',
        '--cipher',
        'aes-cbc-essiv:sha256',
      ];
      const pbkdf = [
        '--pbkdf',
        'pbkdf2',
        '--pbkdf-force-iterations',
        '1000',
        '--key-size',
        '256',
        '--key-file',
        '-',
      ];
      execFileSync('cryptsetup', [...args, ...pbkdf, path], { input: 'host' });
      return bytesOf(path, 0, LUKS_DATA_OFFSET);
    };

    it('opens by the header that was checked', async () => {
      await finished();
      const checked = start();
      const bad = evil();
      let opened: Uint8Array | undefined;
      const { open } = machine((program, args) => {
        if (program !== 'cryptsetup' || args[0] !== 'open') return;
        put(bad, 0);
        opened = readFileSync(args[args.indexOf('--header') + 1]!);
      });
      expect(await open()).toMatchObject({ fresh: false });
      expect(Buffer.compare(opened!, checked)).toBe(0);
      // The copy was for nobody else, and is gone.
      expect(readdirSync(join(folder, 'scratch'))).toEqual([]);
      expect(statSync(join(folder, 'scratch')).mode & 0o777).toBe(0o700);
    });

    it('is refused when it was changed before the check, also just after it was formatted', async () => {
      await finished();
      put(evil(), 0);
      await expect(machine().open()).rejects.toMatchObject({ code: 'disk-refused' });
      // A new disk: the host waits for the format, and puts its header in the place of the guest's.
      put(new Uint8Array(2 * MIB), 0);
      const bad = evil();
      let formatted = false;
      const host: Pick<MachineHost, 'run' | 'read'> = {
        run: async (program, args, input) => {
          const { status, stdout, stderr } = spawnSync(program, [...args], { input: input ?? '' });
          formatted = args[0] === 'luksFormat';
          return { code: status ?? -1, stdout: stdout.toString(), stderr: stderr.toString() };
        },
        read: async (path, offset, length) => {
          if (formatted) put(bad, 0);
          return bytesOf(path, offset, length);
        },
      };
      put(new Uint8Array(LUKS_DATA_OFFSET), 0);
      const scratch = join(folder, 'scratch');
      const opened = openEncryptedDisk({
        host: host as MachineHost,
        device,
        keys: [{ key: KEY, name: undefined }],
        scratch,
        log,
      });
      await expect(opened).rejects.toMatchObject({ code: 'disk-refused' });
      expect(formatted).toBe(true);
    });
  });

  it.each([
    ['a partition table', utf8('EFI PART'), 512],
    ['a file system', Uint8Array.of(0x53, 0xef), 1080],
    ['anything where data would be', utf8('data'), LUKS_DATA_OFFSET + 4096],
    ['only the second copy of a header', utf8('SKUL\xba\xbe'), 16_384],
  ])('that has %s is not formatted', async (_, bytes, offset) => {
    put(bytes, offset);
    const { open, ran } = machine();
    await expect(open()).rejects.toMatchObject({ code: 'disk-refused' });
    expect(ran).toEqual([]);
  });
});
