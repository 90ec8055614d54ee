import { describe, expect, it } from 'vitest';
import { formatDiskKeyName, parseDiskKeyName } from './disk-key-name.ts';
import { keyOfDisk } from './key-of-disk.ts';

const key = (byte: number) => new Uint8Array(32).fill(byte);
const root = (byte: number) => new Uint8Array(20).fill(byte);

describe('the name of a disk key', () => {
  it('fits into a header and is read as it was written', () => {
    for (const epoch of [0, 1, 4_294_967_295])
      for (const rootId of [undefined, root(0), root(0xff), root(0xfb)]) {
        const name = { epoch, ...(rootId === undefined ? {} : { rootId }) };
        const text = formatDiskKeyName(name);
        expect(text.length).toBeLessThan(48);
        expect(parseDiskKeyName(text)).toEqual(name);
      }
    expect(parseDiskKeyName(formatDiskKeyName(undefined))).toBeUndefined();
  });

  it.each(['x', 'key:', 'key:01', 'key:4294967296', 'key:1:', 'key:1:AA', ' key:1'])(
    '%j is refused',
    (text) => expect(() => parseDiskKeyName(text)).toThrow(expect.objectContaining({ code: 'disk-refused' })),
  );
});

describe('the key of a disk', () => {
  const keys = [
    { key: key(3), name: { epoch: 2, rootId: root(2) } },
    { key: key(2), name: { epoch: 1, rootId: root(1) } },
    { key: key(1), name: { epoch: 1, rootId: root(9) } },
  ];
  it('is the one that its header names, and the present one for a new disk', () => {
    expect(keyOfDisk(keys, undefined).key).toEqual(key(3));
    expect(keyOfDisk(keys, { epoch: 1, rootId: root(1) }).key).toEqual(key(2));
    expect(keyOfDisk(keys, { epoch: 1, rootId: root(9) }).key).toEqual(key(1));
    expect(keyOfDisk(keys, { epoch: 1 }).key).toEqual(key(2));
  });
  it('is no other when that one is not given', () => {
    for (const wanted of [{ epoch: 0 }, { epoch: 2, rootId: root(1) }])
      expect(() => keyOfDisk(keys, wanted)).toThrow(expect.objectContaining({ code: 'disk-refused' }));
    expect(() => keyOfDisk([{ key: key(1), name: undefined }], { epoch: 1 })).toThrow(
      expect.objectContaining({ expected: 'key:1', found: 'keys without a name' }),
    );
  });
});
