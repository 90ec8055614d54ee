import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { defaultCrypto } from '#crypto';
import { AttestationError } from '../errors.ts';
import { authenticodeDigest } from './authenticode.ts';

/** A small file whose digest an independent implementation computed. */
function sample(trailing = 0): Uint8Array {
  const file = new Uint8Array(1536 + trailing).fill(0xaa, 1536);
  const view = new DataView(file.buffer);
  file.set(utf8('MZ'));
  view.setUint32(0x3c, 0x80, true);
  file.set(utf8('PE'), 0x80);
  view.setUint16(0x84, 0x8664, true);
  view.setUint16(0x86, 2, true);
  view.setUint16(0x94, 240, true);
  view.setUint16(0x96, 0x22, true);
  view.setUint16(0x98, 0x20b, true);
  view.setUint32(0x98 + 60, 0x200, true);
  view.setUint32(0x98 + 64, 0xdeadbeef, true);
  view.setUint16(0x98 + 68, 10, true);
  view.setUint32(0x98 + 108, 16, true);
  const section = (at: number, name: string, address: number, offset: number): void => {
    file.set(utf8(name), at);
    for (const [i, value] of [0x200, address, 0x200, offset].entries())
      view.setUint32(at + 8 + 4 * i, value, true);
  };
  section(0x188, '.text', 0x1000, 0x200);
  section(0x1b0, '.cmdline', 0x2000, 0x400);
  file.fill(0x90, 0x200, 0x400);
  file.set(utf8('console=ttyS0 dstack.rootfs_hash=00'), 0x400);
  return file;
}

const digest = (file: Uint8Array) => authenticodeDigest(file, 'sha256', defaultCrypto);

describe('Authenticode digest, EDK2 rule', () => {
  it('gives the digest of an independent implementation', () => {
    const { digest: found, regular } = digest(sample());
    expect(toHex(found)).toBe('c3a396816ba571766116fed2daa0b06542afa5be667c151228eebf92a9354248');
    expect(regular).toBe(true);
  });

  it('hashes data after the last section, and says that tools differ on such files', () => {
    const { digest: found, regular } = digest(sample(16));
    expect(toHex(found)).toBe('dd38a3904d37e85c4841e0ecd4c98dd57dc0d3ba6e6591930aa6ba05934e3070');
    expect(regular).toBe(false);
  });

  it('leaves out CheckSum and certificate table, and nothing else', () => {
    const original = toHex(digest(sample()).digest);
    const excluded = (i: number): boolean =>
      (i >= 0x98 + 64 && i < 0x98 + 68) || (i >= 0x98 + 112 + 32 && i < 0x98 + 112 + 40);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1535 }), fc.integer({ min: 1, max: 255 }), (at, xor) => {
        const file = sample();
        file[at]! ^= xor;
        let found: string;
        try {
          found = toHex(digest(file).digest);
        } catch (error) {
          expect(error).toBeInstanceOf(AttestationError);
          return;
        }
        if (!excluded(at)) expect(found).not.toBe(original);
        else if (at < 0x98 + 112) expect(found).toBe(original);
      }),
      { numRuns: 500 },
    );
  });

  it('ignores a signature that was appended', () => {
    const signed = new Uint8Array([...sample(), ...new Uint8Array(64).fill(7)]);
    const view = new DataView(signed.buffer);
    view.setUint32(0x98 + 112 + 32, 1536, true);
    view.setUint32(0x98 + 112 + 36, 64, true);
    expect(digest(signed)).toEqual(digest(sample()));
  });

  it.each([
    ['empty', new Uint8Array()],
    ['no PE', new Uint8Array(2000)],
    ['cut inside the headers', sample().subarray(0, 0x100)],
    ['cut inside a section', sample().subarray(0, 1500)],
    ['noise', fromHex('4d5a'.repeat(600))],
  ])('refuses a file that is %s', (_name, file) => {
    expect(() => digest(file)).toThrow(AttestationError);
  });
});
