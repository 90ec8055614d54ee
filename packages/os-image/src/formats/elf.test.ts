import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { findProgram } from '@dstack-cloud/test/requires';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OsImageError } from '../errors.ts';
import { elfNeeds, isElf } from './elf.ts';

/** Programs and libraries of this machine; some of them are there everywhere. */
const FILES = [process.execPath, '/bin/sh', '/usr/bin/env', '/bin/mount', '/lib/x86_64-linux-gnu/libc.so.6']
  .filter((path) => existsSync(path))
  .map((path) => realpathSync(path));
const readelf = findProgram('readelf');

describe('what an ELF file needs', () => {
  it.skipIf(readelf === undefined).each(FILES)('is what readelf says of %s', (path) => {
    const said = execFileSync(readelf!, ['--dynamic', '--program-headers', '--wide', path]).toString();
    const all = (pattern: RegExp): string[] => [...said.matchAll(pattern)].map(([, text]) => text!);
    const needs = elfNeeds(readFileSync(path), path);
    expect(needs.libraries).toEqual(all(/\(NEEDED\)\s+Shared library: \[([^\]]+)\]/g));
    expect(needs.folders.join(':')).toBe(
      all(/\((?:RUNPATH|RPATH)\)\s+Library run\s?path: \[([^\]]+)\]/gi).join(':'),
    );
    expect(needs.interpreter).toBe(all(/Requesting program interpreter: ([^\]]+)\]/g)[0]);
  });

  it('of a damaged file is an error and nothing else', () => {
    const whole = readFileSync(realpathSync('/bin/sh'));
    const at = fc.nat(whole.length - 1);
    fc.assert(
      fc.property(at, fc.nat(255), at, (position, value, end) => {
        const bytes = Uint8Array.from(whole.subarray(0, Math.max(end, 64)));
        bytes[position % Math.min(bytes.length, 1024)] = value;
        if (!isElf(bytes)) return;
        try {
          elfNeeds(bytes, 'x');
        } catch (error) {
          expect(error).toBeInstanceOf(OsImageError);
        }
      }),
      { numRuns: 200 },
    );
  });

  it.each([
    ['a 32-bit one', Uint8Array.from([0x7f, 0x45, 0x4c, 0x46, 1, 1, ...new Uint8Array(58)])],
    ['a header alone', Uint8Array.from([0x7f, 0x45, 0x4c, 0x46, 2, 1])],
  ])('is not read from %s', (_, bytes) => {
    expect(() => elfNeeds(bytes, '/usr/bin/x')).toThrow(/\/usr\/bin\/x is no ELF file/);
  });
});
