import { expect, test } from 'vitest';
import { ByteReader } from './byte-reader.ts';
import { ByteWriter } from './byte-writer.ts';

// 256 bytes is the first size of the buffer: numbers written across it land in the buffer that replaced it.
test.each([253, 254, 255, 256, 511, 512])(
  'numbers behind %i bytes survive the growing of the buffer',
  (n) => {
    const written = new ByteWriter().bytes(new Uint8Array(n)).u8(1).u16le(2).u32be(3).u64le(4n).finish();
    const reader = new ByteReader(written);
    reader.take(n);
    expect([reader.u8(), reader.u16le(), reader.u32be(), reader.u64le()]).toEqual([1, 2, 3, 4n]);
    reader.finish();
  },
);
