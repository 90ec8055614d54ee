import { describe, expect, test } from 'vitest';
import { patchedKernel } from './patched-kernel.ts';

const GIB = 1024 ** 3;
const machine = { memory: 4 * GIB, initrdBytes: 0x1234 };

type Header = { protocol?: number; flags?: number; extended?: number; initrdMax?: number; magic?: number };

function kernel({
  protocol = 0x20f,
  flags = 1,
  extended = 0x40,
  initrdMax = 0,
  magic,
}: Header = {}): Uint8Array {
  const bytes = new Uint8Array(0x400).fill(0x11);
  const view = new DataView(bytes.buffer);
  view.setUint32(0x202, magic ?? 0x53726448, true);
  view.setUint16(0x206, protocol, true);
  bytes[0x211] = flags;
  view.setUint32(0x22c, initrdMax, true);
  view.setUint16(0x236, extended, true);
  return bytes;
}

describe('patchedKernel', () => {
  test('fills in loader, heap, command line and initrd, and nothing else', () => {
    const before = kernel();
    const after = patchedKernel(before, machine);
    const view = new DataView(after.buffer);
    expect(after[0x210]).toBe(0xb0);
    expect(after[0x211]).toBe(0x81);
    // (0x80000000 - 0x28000 - 1 - 0x1234) rounded down to a page.
    expect(view.getUint32(0x218, true)).toBe(0x7ffd6000);
    expect(view.getUint32(0x21c, true)).toBe(0x1234);
    expect(view.getUint32(0x224, true)).toBe(0xfe00);
    expect(view.getUint32(0x228, true)).toBe(0x20000);
    const changed = [...after].flatMap((byte, at) => (byte === before[at] ? [] : [at]));
    expect(changed.every((at) => [0x210, 0x211].includes(at) || (at >= 0x218 && at < 0x22c))).toBe(true);
    expect(before).toEqual(kernel());
  });

  test.each<[Header, number, number]>([
    [{}, 2 * GIB, 0x7ffd6000],
    [{}, GIB, 0x3ffd6000],
    [{}, 0xb0000000, 0x7ffd6000],
    [{}, 0xb0000000 - 4096, 0xaffd5000],
    [{ extended: 0, initrdMax: 0x7fffffff }, 4 * GIB, 0x7ffd6000],
    [{ extended: 0, initrdMax: 0x30000000 }, 4 * GIB, 0x2fffe000],
    [{ extended: 0, initrdMax: 0 }, 4 * GIB, 0x37ffe000],
    [{ protocol: 0x20b, initrdMax: 0x30000000 }, 4 * GIB, 0x2fffe000],
  ])('%o with %i bytes of memory takes the initrd at its place', (header, memory, address) => {
    const view = new DataView(patchedKernel(kernel(header), { ...machine, memory }).buffer);
    expect(view.getUint32(0x218, true)).toBe(address);
  });

  test('a kernel that is loaded low has its command line low', () => {
    const view = new DataView(patchedKernel(kernel({ flags: 0 }), machine).buffer);
    expect([view.getUint32(0x224, true), view.getUint32(0x228, true)]).toEqual([0x9e00, 0x9a000]);
  });

  test.each<[string, Uint8Array, object]>([
    ['ends inside its header', kernel().subarray(0, 0x237), {}],
    ['no HdrS', kernel({ magic: 0 }), {}],
    ['too old', kernel({ protocol: 0x202 }), {}],
    ['does not fit', kernel(), { initrdBytes: 0x7ffd8000 }],
    ['does not fit', kernel(), { memory: 0x20000 }],
  ])('refuses: %s', (message, bytes, change) => {
    expect(() => patchedKernel(bytes, { ...machine, ...change })).toThrow(message);
  });
});
