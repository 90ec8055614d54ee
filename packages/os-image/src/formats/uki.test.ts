import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { authenticodeDigest, readUki } from '@dstack-cloud/attestation';
import { toHex, utf8 } from '@dstack-cloud/encoding';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type UkiParts, writeUki } from './uki.ts';

const program = new Uint8Array(4096 + 0x71);
program.set(utf8('DSTKSTUB'), 4096);
const parts: UkiParts = {
  stub: { program, dataStart: 4096, entry: 0x10 },
  osRelease: utf8('ID=dstack\n'),
  commandLine: 'console=ttyS0 dstack.test=1',
  initrd: Uint8Array.from({ length: 5001 }, (_, i) => i & 0xff),
  kernel: Uint8Array.from({ length: 9000 }, (_, i) => (i * 3) & 0xff),
};
const hashes = {
  hash: (algorithm: string, ...pieces: Uint8Array[]) => {
    const hash = createHash(algorithm);
    for (const piece of pieces) hash.update(piece);
    return new Uint8Array(hash.digest());
  },
};

describe('a unified kernel image', () => {
  it('has the parts under their names, in memory as they were given', () => {
    const uki = readUki(writeUki(parts));
    expect(uki.kernel).toEqual(parts.kernel);
    expect(uki.initrd).toEqual(parts.initrd);
    expect(uki.commandLine).toEqual(utf8(parts.commandLine));
    expect([...uki.sections.keys()]).toEqual(['.text', '.data', '.osrel', '.cmdline', '.initrd', '.linux']);
  });

  it('is regular: every rule for its Authenticode digest gives the same', () => {
    expect(authenticodeDigest(writeUki(parts), 'sha256', hashes).regular).toBe(true);
  });

  it('has another digest with any one bit changed, but for the two fields that the digest leaves out', () => {
    const file = writeUki(parts);
    const { digest } = authenticodeDigest(file, 'sha256', hashes);
    // CheckSum, and the entry of the certificate table (Windows Authenticode Portable Executable Signature Format).
    const optional = new DataView(file.buffer).getUint32(0x3c, true) + 24;
    const leftOut = (at: number) =>
      (at >= optional + 64 && at < optional + 68) || (at >= optional + 144 && at < optional + 152);
    const differs = (bit: number): boolean => {
      const changed = file.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      try {
        return toHex(authenticodeDigest(changed, 'sha256', hashes).digest) !== toHex(digest);
      } catch {
        // No image any more.
        return true;
      }
    };
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 8 * file.length - 1 }), (bit) => {
        if (!leftOut(bit >> 3)) expect([bit, differs(bit)]).toEqual([bit, true]);
      }),
      { numRuns: 500 },
    );
    for (let bit = 8 * 0x80; bit < 8 * 1024; bit++)
      if (!leftOut(bit >> 3)) expect([bit, differs(bit)]).toEqual([bit, true]);
  });

  it('tells the stub where its sections are in memory', () => {
    const file = writeUki(parts);
    const data = readUki(file).sections.get('.data')!;
    const view = new DataView(data.buffer, data.byteOffset);
    const [cmdline, initrd, kernel] = [8, 16, 24].map((at) => [
      view.getUint32(at, true),
      view.getUint32(at + 4, true),
    ]);
    expect([cmdline![1], initrd![1], kernel![1]]).toEqual([27, 5001, 9000]);
    expect(cmdline![0]! < initrd![0]! && initrd![0]! < kernel![0]!).toBe(true);
  });

  it('leaves the given stub as it is', () => {
    const before = program.slice();
    writeUki(parts);
    expect(program).toEqual(before);
  });

  it.each(['', 'two\nlines', 'umlaut ä', 'x'.repeat(2048), 'nul\0'])(
    'refuses the command line %j',
    (commandLine) => {
      expect(() => writeUki({ ...parts, commandLine })).toThrow(/one line of ASCII/);
    },
  );

  it('refuses an empty part and a stub without its table', () => {
    expect(() => writeUki({ ...parts, initrd: new Uint8Array(0) })).toThrow(/needs its initrd/);
    const stub = { ...parts.stub, program: new Uint8Array(8192) };
    expect(() => writeUki({ ...parts, stub })).toThrow(/no table of sections/);
  });
});

describeWithPrograms('a unified kernel image and objdump', ['objdump'], () => {
  it('agree on the sections', () => {
    const folder = mkdtempSync(join(tmpdir(), 'uki-'));
    try {
      const file = join(folder, 'uki.efi');
      writeFileSync(file, writeUki(parts));
      const shown = execFileSync('objdump', ['-h', file], { encoding: 'utf8' });
      expect(shown).toContain('pei-x86-64');
      expect(shown).toMatch(/\.initrd\s+00001389/);
      expect(shown).toMatch(/\.linux\s+00002328/);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
