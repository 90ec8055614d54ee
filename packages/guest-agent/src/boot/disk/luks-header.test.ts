import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LUKS_COPY as HEADER, rewriteLuksHeader } from '@dstack-cloud/test/luks';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GuestError } from '../../errors.ts';
import { formatDiskKeyName } from './disk-key-name.ts';
import { checkLuksHeader, diskState } from './luks-header.ts';

const FORMAT = [
  ...['luksFormat', '--batch-mode', '--type', 'luks2', '--offset', '32768', '--sector-size', '512'],
  ...['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000', '--key-file', '-'],
];
const CIPHER = ['--cipher', 'aes-xts-plain64', '--key-size', '512'];
const KEY = '0'.repeat(64);

let folder: string;
let good: Uint8Array;

describeWithPrograms('the header of the data disk, as cryptsetup writes it', ['cryptsetup'], () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'luks-'));
    good = format([...CIPHER]);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('is taken when it is the one that this guest makes', () => {
    expect(checkLuksHeader(good).uuid).toMatch(/^[0-9a-f-]{36}$/);
    expect(diskState(good.subarray(0, HEADER * 2), new Uint8Array(4096))).toBe('luks');
    expect(checkLuksHeader(good).keyName).toBeUndefined();
  });

  it('says with which keys the disk was made', () => {
    const name = { epoch: 4_294_967_295, rootId: new Uint8Array(20).fill(0xfb) };
    const header = format([...CIPHER, '--subsystem', formatDiskKeyName(name)]);
    expect(checkLuksHeader(header).keyName).toEqual(name);
  });

  it.each([
    ['another cipher', ['--cipher', 'aes-cbc-essiv:sha256', '--key-size', '256']],
    ['a label', [...CIPHER, '--label', 'x']],
    ['a name of keys that this guest did not write', [...CIPHER, '--subsystem', 'x']],
    ['data in another place', [...CIPHER, '--offset', '65536']],
    ['larger sectors', [...CIPHER, '--sector-size', '4096']],
    [
      'another key derivation',
      [...CIPHER, '--pbkdf', 'argon2id', '--pbkdf-memory', '32', '--pbkdf-force-iterations', '4'],
    ],
    ['another hash', [...CIPHER, '--hash', 'sha512']],
  ])('is refused with %s', (_, args) => {
    expect(() => checkLuksHeader(format(args))).toThrow(GuestError);
  });

  it('is refused with a null cipher, the attack that makes the disk readable', () => {
    const header = rewriteLuksHeader(good, (json) => json.replace('"aes-xts-plain64"', '"cipher_null-ecb"'));
    expect(() => checkLuksHeader(header)).toThrow(/encryption/);
  });

  it('is refused with a second key, and with a token', () => {
    const disk = join(folder, 'disk');
    const other = join(folder, 'other-key');
    writeFileSync(other, 'host');
    const pbkdf = ['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000'];
    format(CIPHER);
    execFileSync('cryptsetup', ['luksAddKey', '-q', ...pbkdf, '--key-file', '-', disk, other], {
      input: KEY,
    });
    expect(() => checkLuksHeader(start(disk))).toThrow(/keyslots/);
    format(CIPHER);
    execFileSync('cryptsetup', ['token', 'add', '--key-description', 'x', '--token-id', '0', disk]);
    expect(() => checkLuksHeader(start(disk))).toThrow(/tokens/);
  });

  it('is refused when its copies differ, however well each is made', () => {
    const changed = rewriteLuksHeader(good, (json) => json.replace(/"iterations":1000/, '"iterations":1001'));
    const mixed = good.slice();
    mixed.set(changed.subarray(0, HEADER));
    expect(() => checkLuksHeader(mixed)).toThrow(/differ/);
  });

  it('is refused with a member twice', () => {
    const header = rewriteLuksHeader(good, (json) => json.replace('"tokens":{}', '"tokens":{},"tokens":{}'));
    expect(() => checkLuksHeader(header)).toThrow(/twice/);
  });

  it('is refused with any bit of it changed', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: HEADER * 2 * 8 - 1 }), (bit) => {
        const bytes = good.slice(0, HEADER * 2);
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        expect(() => checkLuksHeader(bytes)).toThrow(GuestError);
      }),
      { numRuns: 300 },
    );
  });

  it('tells a disk that was never finished', () => {
    const header = format([...CIPHER, '--label', 'dstack-unfinished']);
    expect(diskState(header, new Uint8Array(4096))).toBe('unfinished');
    expect(() => checkLuksHeader(header)).toThrow(/another label/);
    expect(checkLuksHeader(header, 'dstack-unfinished').uuid).toMatch(/^[0-9a-f-]{36}$/);
    expect(() => checkLuksHeader(good, 'dstack-unfinished')).toThrow(/another label/);
  });
});

describe('a disk without a header', () => {
  const zeros = new Uint8Array(32 * 1024);
  const used = Uint8Array.of(...zeros.subarray(1), 1);

  it('is empty when header area and data are zero', () => {
    expect(diskState(zeros, zeros)).toBe('blank');
  });

  it.each([
    ['its header area', used, zeros],
    ['its data', zeros, used],
  ])('is not touched with something in %s', (_, header, data) => {
    expect(() => diskState(header, data)).toThrow(/neither empty nor encrypted/);
  });

  it('never throws anything but its own error on arbitrary bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 9000 }), (bytes) => {
        const withMagic = Uint8Array.of(0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe, ...bytes);
        expect(() => checkLuksHeader(withMagic)).toThrow(GuestError);
      }),
    );
  });
});

function format(args: readonly string[]): Uint8Array {
  const disk = join(folder, 'disk');
  rmSync(disk, { force: true });
  writeFileSync(disk, '');
  truncateSync(disk, 64 * 1024 * 1024);
  execFileSync('cryptsetup', [...FORMAT, ...args, disk], { input: KEY });
  return start(disk);
}

/** Both copies of the header. */
function start(disk: string): Uint8Array {
  const bytes = new Uint8Array(2 * HEADER);
  const file = openSync(disk, 'r');
  readSync(file, bytes, 0, bytes.length, 0);
  closeSync(file);
  return bytes;
}
