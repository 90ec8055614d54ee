import { encodeCbor } from '@dstack-cloud/encoding';
import { expect, test } from 'vitest';
import { parseSnpDocument, SECTION } from './measurement-document.ts';

const PAGE = 4096;
const section = (size: number, type: number): Map<string, number> =>
  new Map([
    ['gpa', 0x800000],
    ['size', size],
    ['type', type],
  ]);
const parse = (...sections: Map<string, number>[]) =>
  parseSnpDocument(
    encodeCbor(
      new Map<string, unknown>([
        ['version', 3],
        ['cmdline', `dstack.rootfs_hash=${'ab'.repeat(32)}`],
        ['ovmf_hash', new Uint8Array(48)],
        ['kernel_hash', new Uint8Array(32)],
        ['initrd_hash', new Uint8Array(32)],
        ['hashes_table_gpa', 0x80f000],
        ['reset_eip', 0x80b004],
        ['ovmf_sections', sections],
      ]),
    ),
  );

const hashes = section(PAGE, SECTION.kernelHashes);

test('the number of pages is bounded before any is hashed', () => {
  expect(parse(hashes, section(4095 * PAGE, SECTION.memory)).sections).toHaveLength(2);
  for (const sizes of [[4096 * PAGE], [2 ** 24 * PAGE], [2048 * PAGE, 2047 * PAGE + 1]]) {
    const many = sizes.map((size) => section(size, SECTION.memory));
    expect(() => parse(hashes, ...many)).toThrow(expect.objectContaining({ code: 'too-large' }));
  }
});

test('a section of unknown type is refused before any page is hashed', () => {
  expect(() => parse(hashes, section(PAGE, 99))).toThrow(expect.objectContaining({ code: 'image' }));
});
