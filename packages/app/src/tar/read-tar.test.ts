import { tarOf } from '@dstack-cloud/test/tar-of';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AppError } from '../errors.ts';
import { ByteSource } from './byte-source.ts';
import { paxFields } from './pax.ts';
import { readTar } from './read-tar.ts';

/** The archive's files as text by name; it arrives in pieces of this size. */
async function filesOf(archive: Uint8Array, piece = 97): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  const pieces = (async function* () {
    for (let at = 0; at < archive.length; at += piece) yield archive.subarray(at, at + piece);
  })();
  await readTar(new ByteSource(pieces, 1 << 20), async ({ path }) => {
    files[path] = '';
    return {
      write: async (part) => {
        files[path] += Buffer.from(part).toString();
      },
      close: async () => undefined,
    };
  });
  return files;
}

const record = (text: string): string => {
  const length = text.length + 2;
  const digits = String(length + String(length).length).length;
  return `${length + digits} ${text}\n`;
};

describe('readTar', () => {
  test.each([1, 97, 512, 1 << 20])('reads files that arrive in pieces of %i bytes', async (piece) => {
    const long = 'z'.repeat(1500);
    const archive = tarOf([
      { name: './', type: '5' },
      { name: './a', data: 'x' },
      { name: 'b/', type: '5' },
      { name: 'b/c', data: long },
      { name: 'empty' },
    ]);
    expect(await filesOf(archive, piece)).toEqual({ '': '', a: 'x', b: '', 'b/c': long, empty: '' });
  });

  test('an extended header gives the next entry its name and size', async () => {
    const name = `${'d'.repeat(60)}/${'e'.repeat(60)}`;
    const archive = tarOf([
      { name: 'global', type: 'g', data: record('comment=abc') },
      { name: 'x', type: 'x', data: record('mtime=1.5') + record(`path=${name}`) + record('size=3') },
      { name: 'short', data: 'abc' },
      { name: 'next', data: 'y' },
    ]);
    expect(await filesOf(archive)).toEqual({ [name]: 'abc', next: 'y' });
  });

  test.each([
    [
      'a path upwards in an extended header',
      tarOf([{ name: 'x', type: 'x', data: record('path=../x') }, { name: 'a' }]),
    ],
    [
      'a link in an extended header',
      tarOf([{ name: 'x', type: 'x', data: record('linkpath=/x') }, { name: 'a' }]),
    ],
    ['a sparse file', tarOf([{ name: 'x', type: 'x', data: record('GNU.sparse.size=1') }, { name: 'a' }])],
    ['a GNU long name', tarOf([{ name: 'x', type: 'L', data: 'name' }, { name: 'a' }])],
    ['a directory with contents', tarOf([{ name: 'x/', type: '5', data: 'x' }])],
    ['too many entries', tarOf(Array.from({ length: 4100 }, (_, i) => ({ name: `f${i}` })))],
    ['the directory itself as a file', tarOf([{ name: './', data: 'x' }])],
    ['nothing', new Uint8Array()],
  ])('refuses %s', async (_, archive) => {
    await expect(filesOf(archive, 4096)).rejects.toMatchObject({ code: 'image-archive-invalid' });
  });

  test('throws nothing but its own error, whatever is changed', async () => {
    const archive = tarOf([
      { name: 'x', type: 'x', data: record('path=abc') },
      { name: 'a', data: 'x'.repeat(700) },
      { name: 'b/', type: '5' },
    ]);
    await fc.assert(
      fc.asyncProperty(
        fc.nat(archive.length - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.nat(archive.length),
        async (at, mask, cut) => {
          const bytes = archive.slice(0, cut);
          if (at < cut) bytes[at]! ^= mask;
          try {
            await filesOf(bytes);
          } catch (error) {
            expect(error).toBeInstanceOf(AppError);
          }
        },
      ),
    );
  });
});

test.each(['', '5 a=\n'])('paxFields reads %j', (text) => {
  expect(paxFields(Buffer.from(text))).toEqual({});
});

test.each([
  'x',
  '8 path=a\n',
  '0 a=b\n',
  '6 ab=\n7',
  '12345678901 a=b\n',
  '9 size=-1\n',
  '4 a\n\n',
  '6 =abc\n',
])('paxFields refuses %j', (text) => {
  expect(() => paxFields(Buffer.from(text))).toThrow(AppError);
});
