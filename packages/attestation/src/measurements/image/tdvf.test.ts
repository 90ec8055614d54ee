import { fromHex, toHex } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { defaultCrypto } from '#crypto';
import { AttestationError } from '../../errors.ts';
import { tdvfMrtd } from './mrtd.ts';
import { parseTdvf } from './tdvf.ts';

const BYTES = 0x2000;
const TABLE_END = BYTES - 32;
const DESCRIPTOR = 0x1000;
const SECTION = DESCRIPTOR + 16;

type Change = (view: DataView, bytes: Uint8Array) => void;

/** One measured page at 0xfffff000, whose contents are the first page of the file; then `change`. */
function firmware(change: Change = () => undefined): Uint8Array {
  const bytes = new Uint8Array(BYTES);
  bytes.fill(0x5a, 0, 0x1000);
  const view = new DataView(bytes.buffer);
  bytes.set(fromHex('de82b596b21ff745baeaa366c55a082d'), TABLE_END - 16);
  view.setUint16(TABLE_END - 18, 18 + 22, true);
  bytes.set(fromHex('35657ae44a989847865e4685a7bf8ec2'), TABLE_END - 34);
  view.setUint16(TABLE_END - 36, 22, true);
  view.setUint32(TABLE_END - 40, BYTES - DESCRIPTOR, true);
  view.setUint32(DESCRIPTOR, 0x46564454, true);
  view.setUint32(DESCRIPTOR + 4, 48, true);
  view.setUint32(DESCRIPTOR + 8, 1, true);
  view.setUint32(DESCRIPTOR + 12, 1, true);
  view.setUint32(SECTION + 4, 0x1000, true);
  view.setBigUint64(SECTION + 8, 0xfffff000n, true);
  view.setBigUint64(SECTION + 16, 0x1000n, true);
  view.setUint32(SECTION + 28, 1, true);
  change(view, bytes);
  return bytes;
}

describe('parseTdvf', () => {
  test('finds the sections', () => {
    expect(parseTdvf(firmware()).sections).toEqual([
      {
        type: 0,
        offset: 0,
        rawSize: 0x1000,
        address: 0xfffff000,
        memorySize: 0x1000,
        extend: true,
        augmented: false,
      },
    ]);
  });

  test.each<[string, Change]>([
    ['table of GUIDs is missing', (_, bytes) => bytes.fill(0, TABLE_END - 16)],
    ['reaches beyond the file', (view) => view.setUint16(TABLE_END - 18, 0xffff, true)],
    ['entry of the table of GUIDs is broken', (view) => view.setUint16(TABLE_END - 36, 0, true)],
    ['entry of the table of GUIDs is broken', (view) => view.setUint16(TABLE_END - 36, 23, true)],
    ['metadata entry is too short', (view) => view.setUint16(TABLE_END - 36, 18, true)],
    ['no TDX metadata', (view) => view.setUint8(TABLE_END - 34, 0)],
    ['descriptor lies outside', (view) => view.setUint32(TABLE_END - 40, BYTES + 1, true)],
    ['descriptor lies outside', (view) => view.setUint32(TABLE_END - 40, 15, true)],
    ['without its signature', (view) => view.setUint32(DESCRIPTOR, 0, true)],
    ['another version', (view) => view.setUint32(DESCRIPTOR + 8, 2, true)],
    ['with 65 sections', (view) => view.setUint32(DESCRIPTOR + 12, 65, true)],
    [
      'sections reach beyond the file',
      (view, bytes) => {
        bytes.copyWithin(0x1c00, DESCRIPTOR, DESCRIPTOR + 16);
        view.setUint32(0x1c0c, 64, true);
        view.setUint32(TABLE_END - 40, BYTES - 0x1c00, true);
      },
    ],
    ['not made of pages', (view) => view.setBigUint64(SECTION + 8, 0xfffff001n, true)],
    ['not made of pages', (view) => view.setBigUint64(SECTION + 16, 0x1001n, true)],
    ['beyond all memory', (view) => view.setBigUint64(SECTION + 8, 2n ** 63n, true)],
    ['section reaches beyond the file', (view) => view.setUint32(SECTION, BYTES, true)],
    ['not as large as its memory', (view) => view.setBigUint64(SECTION + 16, 0x2000n, true)],
    [
      'pages',
      (view) => {
        view.setUint32(SECTION + 28, 0, true);
        view.setBigUint64(SECTION + 16, 2n ** 40n, true);
      },
    ],
  ])('refuses: %s', (message, change) => {
    expect(() => parseTdvf(firmware(change))).toThrow(message);
  });

  test('throws nothing but its own errors, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(BYTES - 200), (noise, at) => {
        for (const bytes of [noise, firmware((_, file) => file.set(noise, at))]) {
          try {
            parseTdvf(bytes);
          } catch (error) {
            expect(error).toBeInstanceOf(AttestationError);
          }
        }
      }),
    );
  });
});

describe('tdvfMrtd', () => {
  test('is one block for the page, then a block and the bytes for each 256 of them', () => {
    const name = (text: string): string => Buffer.from(text.padEnd(16, '\0')).toString('hex');
    const address = (low: number): string =>
      `${low.toString(16).padStart(4, '0').match(/../g)!.reverse().join('')}ffff00000000`;
    let all = `${name('MEM.PAGE.ADD')}${address(0xf000)}${'00'.repeat(104)}`;
    for (let at = 0xf000; at < 0x10000; at += 256) {
      all += `${name('MR.EXTEND')}${address(at)}${'00'.repeat(104)}${'5a'.repeat(256)}`;
    }
    const expected = toHex(defaultCrypto.hash('sha384', fromHex(all)));
    const tdvf = parseTdvf(firmware());
    expect(toHex(tdvfMrtd(tdvf, 'single-pass', defaultCrypto))).toBe(expected);
    expect(toHex(tdvfMrtd(tdvf, 'two-pass', defaultCrypto))).toBe(expected);
  });
});
