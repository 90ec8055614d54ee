import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { utf8 } from '@dstack-cloud/encoding';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AppError } from '../errors.ts';
import {
  type ByteRange,
  fileRange,
  imageStream,
  isNamedBy,
  parseImageReference,
  readImageArchive,
  tarFiles,
} from './index.ts';
import type { ImageLayout } from './read-image-archive.ts';

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

function inMemory(bytes: Uint8Array): ByteRange {
  return { read: async (position, length) => bytes.subarray(position, position + length) };
}

function part(bytes: Uint8Array) {
  return { hex: sha256(bytes), size: bytes.length, content: inMemory(bytes) };
}

const json = (value: object) => utf8(JSON.stringify(value));
const named = (bytes: Uint8Array) => ({ digest: `sha256:${sha256(bytes)}`, size: bytes.length });

const layer = utf8('a layer');
const config = json({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] } });
const manifest = json({ schemaVersion: 2, config: named(config), layers: [named(layer)] });
const layout: ImageLayout = {
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
  manifest: part(manifest),
  config: part(config),
  layers: [part(layer)],
};

async function archiveOf(
  names: readonly string[] = [],
  changes: Partial<ImageLayout> = {},
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of imageStream({ ...layout, ...changes }, names)) pieces.push(piece);
  return new Uint8Array(Buffer.concat(pieces));
}

function tarHeader(type: string, size: number): Buffer {
  const header = Buffer.alloc(512);
  header.write('name', 0);
  header.write(size.toString(8).padStart(11, '0'), 124);
  header.write(' '.repeat(8), 148);
  header.write(type, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}

const read = async (bytes: Uint8Array) => await readImageArchive(inMemory(bytes));

describe('readImageArchive', () => {
  it('says what an OCI image layout has, by name, digest and id', async () => {
    const [image, ...others] = await read(await archiveOf(['docker.io/library/web:1']));
    expect(others).toEqual([]);
    expect(image).toMatchObject({
      id: sha256(config),
      digests: [sha256(manifest)],
      names: ['docker.io/library/web:1'],
    });
    for (const [text, found] of [
      ['web:1', true],
      [`web@sha256:${sha256(manifest)}`, true],
      // The digest decides, whatever is called what.
      [`other/name:7@sha256:${sha256(manifest)}`, true],
      [`sha256:${sha256(config)}`, true],
      ['web', false],
      ['web:2', false],
      [`web@sha256:${sha256(config)}`, false],
      [`sha256:${sha256(manifest)}`, false],
    ] as const)
      expect([text, isNamedBy(image!, parseImageReference(text)!)]).toEqual([text, found]);
  });

  it.each([
    [
      'a changed manifest',
      { manifest: { ...part(manifest), content: inMemory(json({})), size: 2 } },
      /other content under sha256:/,
    ],
    [
      'a changed configuration',
      { config: { ...part(config), content: inMemory(json({})), size: 2 } },
      /other content under sha256:/,
    ],
    ['a missing layer', { layers: [] }, /does not have it/],
  ] as const)('refuses %s', async (_, changes, message) => {
    await expect(archiveOf([], changes).then(read)).rejects.toThrow(message);
  });

  it.each([
    [4096, /neither index.json/],
    [4097, /a name of more than 4096 characters/],
  ])('keeps names of no more than PATH_MAX: %d characters', async (length, message) => {
    const longName = Buffer.alloc(Math.ceil(length / 512) * 512).fill('n', 0, length);
    const pieces = [tarHeader('L', length), longName, tarHeader('0', 0), Buffer.alloc(1024)];
    await expect(read(Buffer.concat(pieces))).rejects.toThrow(message);
  });

  it('says how to go on when an archive is compressed, or none', async () => {
    await expect(read(new Uint8Array([0x1f, 0x8b, 8, 0]))).rejects.toThrow('gunzip');
    await expect(read(new Uint8Array([0x28, 0xb5, 0x2f, 0xfd]))).rejects.toThrow('unzstd');
    await expect(read(new Uint8Array(1024))).rejects.toThrow('neither index.json');
    await expect(read(utf8('#!/bin/sh\n'))).rejects.toThrow('no tar archive');
    const whole = await archiveOf();
    await expect(read(whole.subarray(0, 700))).rejects.toThrow('ends early');
  });

  it('ends with an error of its own, soon, whatever the bytes are', async () => {
    const whole = await archiveOf(['docker.io/library/web:1']);
    const change = fc.record({ at: fc.nat(whole.length - 1), to: fc.integer({ min: 0, max: 255 }) });
    await fc.assert(
      fc.asyncProperty(
        fc.array(change, { minLength: 1, maxLength: 20 }),
        fc.nat(whole.length),
        async (changes, end) => {
          const bytes = whole.slice(0, end === 0 ? whole.length : end);
          for (const { at, to } of changes) if (at < bytes.length) bytes[at] = to;
          const images = await read(bytes).catch((error: unknown) => {
            if (error instanceof AppError && error.code === 'image-archive-invalid') return [];
            throw error;
          });
          // What is found by digest has that digest, still.
          for (const image of images)
            if (image.digests.includes(sha256(manifest))) expect(image.id).toBe(sha256(config));
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('parseImageReference', () => {
  it.each([
    ['web', { kind: 'tag', name: 'docker.io/library/web:latest' }],
    ['org/web:1.2', { kind: 'tag', name: 'docker.io/org/web:1.2' }],
    ['localhost/web', { kind: 'tag', name: 'localhost/web:latest' }],
    ['registry.example:5000/a/b:c', { kind: 'tag', name: 'registry.example:5000/a/b:c' }],
    ['index.docker.io/org/web', { kind: 'tag', name: 'docker.io/org/web:latest' }],
    ['', undefined],
    ['Web', undefined],
    ['web@sha256:12', undefined],
    [`web@sha256:${'a'.repeat(64)}@x`, undefined],
    ['-web', undefined],
  ])('%j', (text, expected) => {
    expect(parseImageReference(text)).toEqual(expected);
  });
});

describeWithPrograms('image archives and the real tar', ['tar'], () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'dstack-tar-'));
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  it.each(['gnu', 'oldgnu', 'pax', 'posix', 'ustar'])('reads what tar --format=%s writes', async (format) => {
    const deep = join('folder'.repeat(12), 'b'.repeat(90));
    mkdirSync(join(dir, 'in', 'folder'.repeat(12)), { recursive: true });
    writeFileSync(join(dir, 'in', deep), 'deep');
    writeFileSync(join(dir, 'in/empty'), '');
    writeFileSync(join(dir, 'in/blob'), Buffer.alloc(1000, 7));
    execFileSync('tar', [`--format=${format}`, '-C', join(dir, 'in'), '-cf', join(dir, 'x.tar'), '.']);
    const found: Record<string, string> = {};
    for await (const { name, size, content } of tarFiles(inMemory(readFileSync(join(dir, 'x.tar')))))
      found[name] = sha256(await content.read(0, size));
    const expected = { [deep]: utf8('deep'), empty: new Uint8Array(0), blob: new Uint8Array(1000).fill(7) };
    expect(found).toEqual(
      Object.fromEntries(Object.entries(expected).map(([name, one]) => [name, sha256(one)])),
    );
  });

  it('writes what tar reads, also beyond 8 GiB', async () => {
    writeFileSync(join(dir, 'x.tar'), await archiveOf(['docker.io/library/web:1']));
    const listed = execFileSync('tar', ['-tvf', join(dir, 'x.tar')]).toString();
    expect(listed.split('\n').length).toBe(7);
    expect(listed).toContain(`blobs/sha256/${sha256(layer)}`);
    const size = 9 * 2 ** 30;
    const huge = { hex: 'f'.repeat(64), size, content: inMemory(new Uint8Array(0)) };
    const stream = imageStream({ ...layout, manifest: huge }, []);
    const { value: header } = await stream.next();
    await stream.return(undefined);
    const sparse: ByteRange = {
      read: async (position, length) =>
        position === 0 ? (header as Uint8Array) : new Uint8Array(position > size ? length : 0),
    };
    const files = [];
    for await (const file of tarFiles(sparse)) files.push([file.name, file.size]);
    expect(files).toEqual([[`blobs/sha256/${'f'.repeat(64)}`, size]]);
    writeFileSync(join(dir, 'header'), header as Uint8Array);
    truncateSync(join(dir, 'header'), 512 + size + 1024);
    expect(execFileSync('tar', ['-tvf', join(dir, 'header')]).toString()).toContain(String(size));
  });
});

/** Used by the tests of other packages too: a real file is read as one in memory is. */
it('reads a file at any place', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'dstack-range-'));
  try {
    const { open } = await import('node:fs/promises');
    writeFileSync(join(dir, 'x'), await archiveOf(['docker.io/library/web:1']));
    const handle = await open(join(dir, 'x'));
    expect((await readImageArchive(fileRange(handle)))[0]?.id).toBe(sha256(config));
    await handle.close();
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
