import { expect, it } from 'vitest';
import { bytesSource } from './byte-source.ts';
import { EifError } from './errors.ts';
import { joinCrc, updateCrc } from './format/crc32.ts';
import { readEif } from './measure/read-eif.ts';
import { measurements } from './measurements.ts';
import { assembleEif, PLAIN, type PlainSection, pcr, plainReading, withCrc } from './test/assemble-eif.ts';
import { verifyEif } from './verify.ts';

const NOW = new Date('2026-11-30T12:00:00Z');
const text = (value: string) => new Uint8Array(Buffer.from(value));
const read = (bytes: Uint8Array) => readEif(bytesSource('image', bytes));
const verified = async (bytes: Uint8Array) => verifyEif(await read(bytes), { now: NOW });

const [kernel, cmdline, first, second] = PLAIN as readonly [
  PlainSection,
  PlainSection,
  PlainSection,
  PlainSection,
];
const metadata: PlainSection = {
  type: 5,
  payload: text(
    JSON.stringify({
      ImageName: 'app',
      ImageVersion: '1',
      BuildMetadata: {
        BuildTime: '2026-01-01T00:00:00+00:00',
        BuildTool: 't',
        BuildToolVersion: '1',
        OperatingSystem: 'Linux',
        KernelVersion: '6.1',
      },
      DockerInfo: null,
      CustomMetadata: null,
    }),
  ),
};

it.each([2, 3, 4])('reads version %i', async (version) => {
  const image = assembleEif(PLAIN, { version });
  const eif = await read(image);
  expect(eif.header).toMatchObject({ version, architecture: 'x86_64' });
  expect(measurements(eif.pcrs, eif.pcr8)).toMatchObject({
    PCR0: pcr(kernel.payload, cmdline.payload, first.payload, second.payload),
    PCR1: pcr(kernel.payload, cmdline.payload, first.payload),
    PCR2: pcr(second.payload),
  });
  await verified(image);
});

it('measures nothing as PCR 2 of an image with one ramdisk', async () => {
  const eif = await read(assembleEif([kernel, cmdline, first]));
  expect(measurements(eif.pcrs, undefined).PCR2).toBe(pcr());
});

it.each([
  ['before all', [metadata, ...PLAIN]],
  ['in the middle', [kernel, cmdline, first, metadata, second]],
  ['last', [...PLAIN, metadata]],
])('finds metadata %s, and does not measure it', async (_name, sections) => {
  const eif = await read(assembleEif(sections));
  expect(eif.metadata?.ImageName).toBe('app');
  expect(measurements(eif.pcrs, undefined)).toEqual(
    measurements((await read(assembleEif(PLAIN))).pcrs, undefined),
  );
});

it('a changed byte of the metadata changes the checksum and no register', async () => {
  const image = Buffer.from(assembleEif([kernel, cmdline, metadata, first, second]));
  image[image.indexOf('"app"') + 1] = 0x62;
  const eif = await read(new Uint8Array(image));
  expect(eif.metadata?.ImageName).toBe('bpp');
  expect(eif.crc32).not.toBe(eif.header.crc32);
  expect(measurements(eif.pcrs, undefined)).toMatchObject({ PCR0: plainReading(image).PCR0 });
});

it('every way to cut an image short is refused', async () => {
  const image = assembleEif([...PLAIN, metadata]);
  for (let length = 0; length < image.length; length++) {
    const error = await read(image.subarray(0, length)).catch((thrown: unknown) => thrown);
    expect(error, `${length} bytes`).toBeInstanceOf(EifError);
    expect((error as EifError).code).toMatch(length < 4 ? /not-an-eif/ : /truncated/);
  }
});

const other = assembleEif([kernel, cmdline, first, { type: 3, payload: text('another ramdisk') }]);
const changed = (change: (image: Buffer) => void, base = PLAIN) => {
  const image = Buffer.from(assembleEif(base));
  change(image);
  return new Uint8Array(withCrc(image));
};

it.each<[string, Uint8Array, string, RegExp]>([
  ['an empty file', new Uint8Array(0), 'not-an-eif', /does not begin with "\.eif"/],
  ['another file', text('#!/bin/sh\n'.repeat(100)), 'not-an-eif', /is no enclave image file/],
  ['version 1', assembleEif(PLAIN, { version: 1 }), 'unsupported', /version 1 are not known/],
  ['version 5', assembleEif(PLAIN, { version: 5 }), 'unsupported', /version 5 are not known/],
  ['unknown flags', assembleEif(PLAIN, { flags: 2 }), 'malformed', /unknown flags/],
  ['a used reserve', assembleEif(PLAIN, { change: (h) => h.writeUInt16BE(1, 24) }), 'malformed', /reserved/],
  ['a used gap', assembleEif(PLAIN, { change: (h) => h.writeUInt32BE(1, 540) }), 'malformed', /reserved/],
  [
    'a table that names another place',
    assembleEif(PLAIN, { change: (h) => h.writeBigUInt64BE(600n, 28 + 8) }),
    'tables-differ',
    /do not fit section 1 \(cmdline\)/,
  ],
  [
    'a table that names another length',
    assembleEif(PLAIN, { change: (h) => h.writeBigUInt64BE(5n, 284) }),
    'tables-differ',
    /do not fit section 0 \(kernel\)/,
  ],
  [
    'a table that goes on',
    assembleEif(PLAIN, { change: (h) => h.writeBigUInt64BE(5n, 284 + 8 * 20) }),
    'tables-differ',
    /go on after the last section/,
  ],
  [
    'more sections than counted',
    assembleEif(PLAIN, {
      change: (h) => {
        h.writeUInt16BE(3, 26);
        h.writeBigUInt64BE(0n, 28 + 24);
        h.writeBigUInt64BE(0n, 284 + 24);
      },
    }),
    'trailing-bytes',
    /Bytes follow the last section/,
  ],
  ['33 sections', assembleEif(Array.from({ length: 33 }, () => first)), 'malformed', /too many sections/],
  [
    'bytes at the end',
    new Uint8Array(Buffer.concat([assembleEif(PLAIN), Buffer.alloc(3)])),
    'trailing-bytes',
    /follow/,
  ],
  [
    'a size beyond the end',
    changed((i) => i.writeBigUInt64BE(2n ** 63n, 548 + 4)),
    'truncated',
    /inside section 0/,
  ],
  [
    'flags of a section',
    changed((i) => i.writeUInt16BE(1, 548 + 2)),
    'malformed',
    /section 0 \(kernel\) has unknown flags/i,
  ],
  ['a section of type 0', changed((i) => i.writeUInt16BE(0, 548)), 'malformed', /unknown type/],
  ['a section of type 6', changed((i) => i.writeUInt16BE(6, 548)), 'malformed', /unknown type/],
  ['two kernels', assembleEif([kernel, kernel, cmdline, first]), 'malformed', /has 2 sections kernel/],
  [
    'two command lines',
    assembleEif([kernel, cmdline, cmdline, first]),
    'malformed',
    /has 2 sections cmdline/,
  ],
  ['no kernel', assembleEif([cmdline, first]), 'malformed', /has no kernel/],
  ['no ramdisk', assembleEif([kernel, cmdline]), 'malformed', /has no ramdisk/],
  ['two metadata', assembleEif([...PLAIN, metadata, metadata]), 'malformed', /has 2 sections metadata/],
  [
    'metadata in version 3',
    assembleEif([...PLAIN, metadata], { version: 3 }),
    'malformed',
    /no section metadata/,
  ],
  [
    'a signature in version 2',
    assembleEif([...PLAIN, { type: 4, payload: text('x') }], { version: 2 }),
    'malformed',
    /no section signature/,
  ],
  ['the kernel last', assembleEif([cmdline, first, kernel]), 'malformed', /measure differently/],
  [
    'metadata that is no JSON',
    assembleEif([...PLAIN, { type: 5, payload: text('{') }]),
    'malformed',
    /metadata section is not JSON/,
  ],
  [
    'metadata of another form',
    assembleEif([...PLAIN, { type: 5, payload: text('{}') }]),
    'malformed',
    /not in the known form/,
  ],
  [
    'metadata too long',
    assembleEif([...PLAIN, { type: 5, payload: new Uint8Array(1_100_000) }]),
    'too-large',
    /metadata section is too long/,
  ],
  [
    'a signature of rubbish',
    assembleEif([...PLAIN, { type: 4, payload: text('rubbish') }]),
    'malformed',
    /signature section cannot be read/,
  ],
  [
    'a signature too long',
    assembleEif([...PLAIN, { type: 4, payload: new Uint8Array(40_000) }]),
    'too-large',
    /signature section is too long/,
  ],
  [
    'the checksum of another file',
    (() => {
      const image = Buffer.from(assembleEif(PLAIN));
      Buffer.from(other).copy(image, 544, 544, 548);
      return new Uint8Array(image);
    })(),
    'crc-differs',
    /checksum in the header is not that of the content/,
  ],
])('refuses %s', async (_name, bytes, code, message) => {
  const error = await verified(bytes).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(EifError);
  expect(error).toMatchObject({ code });
  expect((error as EifError).message).toMatch(message);
});

it('joins checksums as if the bytes were one', () => {
  const bytes = Uint8Array.from({ length: 5000 }, (_, i) => (i * 7919) & 0xff);
  for (const cut of [0, 1, 2, 3, 544, 4095, 5000]) {
    const [head, tail] = [bytes.subarray(0, cut), bytes.subarray(cut)];
    expect(joinCrc(updateCrc(0, head), updateCrc(0, tail), tail.length)).toBe(updateCrc(0, bytes));
  }
});

it('measures a large image in a second thread as in one', async () => {
  const large = new Uint8Array(20 << 20).fill(7);
  const image = assembleEif([kernel, cmdline, first, { type: 3, payload: large }, second]);
  const eif = await read(image);
  const { crcIsRight: _, ...registers } = plainReading(image);
  expect(measurements(eif.pcrs, undefined)).toMatchObject(registers);
});
