import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import type { RequestListener } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type ArchiveEntry, tarOf } from '@dstack-cloud/test/tar-of';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { imageArchive } from '../test/image-archive.ts';
import { breaking, type ImageServer, startImageServer, whole } from '../test/image-server.ts';
import { ImageCache, type ImageCacheOptions } from './image-cache.ts';

const METADATA = JSON.stringify({
  cmdline: 'console=ttyS0',
  kernel: 'bzImage',
  initrd: 'initramfs',
  bios: 'ovmf.fd',
});
const FILES = {
  'metadata.json': METADATA,
  bzImage: 'kernel',
  initramfs: 'initrd',
  'ovmf.fd': Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * i) % 251)),
};
const GOOD = imageArchive(FILES);

let server: ImageServer;
let directory: string;
let lookups: string[];
const alive = new AbortController().signal;

beforeAll(async () => {
  server = await startImageServer();
});
afterAll(() => server.close());
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'kms-image-'));
  lookups = [];
  server.requests.length = 0;
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function cache(options: Partial<ImageCacheOptions> = {}): ImageCache {
  return new ImageCache({
    directory,
    urlTemplate: server.url,
    timeoutMs: 10_000,
    maxDownloadBytes: 1 << 20,
    maxUnpackedBytes: 1 << 20,
    fetch,
    onLookup: (result) => lookups.push(result),
    onDamaged: () => lookups.push('damaged'),
    ...options,
  });
}

/** What counts as an image, and what lies about. */
const images = (): string[] =>
  existsSync(join(directory, 'images'))
    ? readdirSync(join(directory, 'images')).filter((name) => name !== 'tmp')
    : [];
const temporary = (): string[] => readdirSync(join(directory, 'images', 'tmp'));

describe('ImageCache', () => {
  test('downloads, checks and keeps an image without what it does not list', async () => {
    const { archive, hash } = imageArchive(FILES, [
      { name: 'rootfs.img', data: 'x' },
      { name: 'dir/', type: '5' },
      { name: 'dir/nested', data: 'y' },
    ]);
    server.serve = whole(archive);
    const parts = await cache().parts(hash, alive);
    expect(parts).toMatchObject({ commandLine: 'console=ttyS0', initrd: { bytes: 6 } });
    expect(Buffer.from(parts.kernel).toString()).toBe('kernel');
    expect(parts.firmware).toEqual(new Uint8Array(FILES['ovmf.fd']));
    expect(readdirSync(join(directory, 'images', hash)).sort()).toEqual(
      [...Object.keys(FILES), 'sha256sum.txt'].sort(),
    );
    expect(await cache().parts(hash, alive)).toEqual(parts);
    expect(lookups).toEqual(['miss', 'hit']);
    expect(server.requests).toEqual([{ path: `/mr_${hash}.tar.gz`, range: undefined }]);
    expect(temporary()).toEqual([]);
  });

  test('takes up a transfer that breaks off where it ended', async () => {
    const piece = Math.ceil(GOOD.archive.length / 3);
    server.serve = breaking(GOOD.archive, piece);
    await cache().parts(GOOD.hash, alive);
    expect(server.requests.map(({ range }) => range)).toEqual([
      undefined,
      `bytes=${piece}-`,
      `bytes=${2 * piece}-`,
    ]);
  });

  test('a server without ranges is asked again, and what is known passed over', async () => {
    let answers = 0;
    server.serve = (request, response) => {
      answers += 1;
      if (answers > 1) whole(GOOD.archive)(request, response);
      else breaking(GOOD.archive, 100)({ headers: {} } as never, response as never);
    };
    await cache().parts(GOOD.hash, alive);
    expect(answers).toBe(2);
  });

  test('a file that was changed in the cache is noticed, and the image downloaded again', async () => {
    server.serve = whole(GOOD.archive);
    await cache().parts(GOOD.hash, alive);
    writeFileSync(join(directory, 'images', GOOD.hash, 'bzImage'), 'KERNEL');
    const parts = await cache().parts(GOOD.hash, alive);
    expect(Buffer.from(parts.kernel).toString()).toBe('kernel');
    expect(lookups).toEqual(['miss', 'damaged', 'miss']);
  });

  test('what a process that has ended left behind is removed', async () => {
    mkdirSync(join(directory, 'images', 'tmp', '999999999-left'), { recursive: true });
    server.serve = whole(GOOD.archive);
    await cache().parts(GOOD.hash, alive);
    expect(temporary()).toEqual([]);
  });

  test('nothing else is, nor anything through a link or in a folder that others may write to', async () => {
    server.serve = whole(GOOD.archive);
    mkdirSync(join(directory, 'images', 'tmp', 'notes'), { recursive: true });
    await cache().parts(GOOD.hash, alive);
    expect(temporary()).toEqual(['notes']);

    const other = join(directory, 'other');
    mkdirSync(join(other, '999999999-left'), { recursive: true });
    rmSync(join(directory, 'images'), { recursive: true });
    mkdirSync(join(directory, 'images'));
    symlinkSync(other, join(directory, 'images', 'tmp'));
    await expect(cache().parts(GOOD.hash, alive)).rejects.toMatchObject({ code: 'image-unavailable' });
    expect(readdirSync(other)).toEqual(['999999999-left']);
    rmSync(join(directory, 'images', 'tmp'));
    mkdirSync(join(directory, 'images', 'tmp'));
    chmodSync(join(directory, 'images', 'tmp'), 0o777);
    await expect(cache().parts(GOOD.hash, alive)).rejects.toMatchObject({
      message: expect.stringContaining('chmod 755'),
    });
  });

  test('a directory that cannot be written is said so, and nothing is an image', async () => {
    writeFileSync(join(directory, 'images'), '');
    server.serve = whole(GOOD.archive);
    await expect(cache().parts(GOOD.hash, alive)).rejects.toMatchObject({
      code: 'image-unavailable',
      message: expect.stringMatching(/^Failed to store image: E/),
    });
  });

  test('an end while it downloads leaves nothing', async () => {
    const ending = new AbortController();
    server.serve = (_, response) => {
      response.write(GOOD.archive.subarray(0, 200));
      setTimeout(() => ending.abort(), 50);
    };
    await expect(cache().parts(GOOD.hash, ending.signal)).rejects.toMatchObject({
      code: 'image-unavailable',
    });
    expect([images(), temporary()]).toEqual([[], []]);
  });

  const archiveOf = (...entries: ArchiveEntry[]): RequestListener =>
    whole(imageArchive(FILES, entries).archive);
  const status =
    (code: number, headers: Record<string, string> = {}): RequestListener =>
    (_, response) =>
      response.writeHead(code, headers).end();
  const hash = GOOD.hash;

  test.each<[string, RequestListener, string, Partial<ImageCacheOptions>?]>([
    [
      'another image',
      whole(imageArchive({ ...FILES, bzImage: 'x' }).archive),
      'os_image_hash does not match',
    ],
    ['404', status(404), 'Failed to download image: HTTP status 404 Not Found'],
    [
      'an answer that never ends',
      (_, response) => response.write('x'),
      'Download image timeout',
      { timeoutMs: 300 },
    ],
    ['no answer', () => undefined, 'Download image timeout', { timeoutMs: 300 }],
    ['a large archive', whole(GOOD.archive), 'larger than 100 bytes', { maxDownloadBytes: 100 }],
    ['a large image', whole(GOOD.archive), 'more than 4096 bytes unpacked', { maxUnpackedBytes: 4096 }],
    ['zeros that unpack to much', whole(gzipSync(Buffer.alloc(2 << 20))), 'bytes unpacked'],
    ['no gzip file', whole(Buffer.from('hello')), 'no gzip file'],
    ['an empty answer', whole(new Uint8Array()), 'archive'],
    [
      'half an archive',
      whole(gzipSync(tarOf([{ name: 'a', data: 'b'.repeat(2000) }]).subarray(0, 1024))),
      'ends early',
    ],
    ['no checksum file', whole(gzipSync(tarOf([{ name: 'a', data: 'b' }]))), 'sha256sum.txt not found'],
    [
      'content after the end',
      whole(gzipSync(Buffer.concat([tarOf([]), Buffer.from('x')]))),
      'goes on after its end',
    ],
    [
      'a redirect to another host',
      status(302, { Location: 'http://localhost:9/x' }),
      'redirect to another host',
    ],
    ['a redirect to itself', status(302, { Location: '/x' }), 'more than 5 redirects'],
    [
      'compression on the way',
      (_, r) => r.writeHead(200, { 'Content-Encoding': 'gzip' }).end('x'),
      'content-encoding gzip',
    ],
    ['a path upwards', archiveOf({ name: '../escape', data: 'x' }), 'leads out of it'],
    ['a hidden path upwards', archiveOf({ name: 'a/../../b', data: 'x' }), 'leads out of it'],
    ['an absolute path', archiveOf({ name: '/etc/passwd', data: 'x' }), 'absolute path'],
    ['a symbolic link', archiveOf({ name: 'link', type: '2' }), 'neither file nor directory'],
    ['a hard link', archiveOf({ name: 'link', type: '1' }), 'neither file nor directory'],
    ['a device', archiveOf({ name: 'null', type: '3' }), 'neither file nor directory'],
    ['a FIFO', archiveOf({ name: 'pipe', type: '6' }), 'neither file nor directory'],
    ['a name twice', archiveOf({ name: './bzImage', data: 'x' }), 'has "bzImage" twice'],
    ['an odd name', archiveOf({ name: 'a\nb', data: 'x' }), 'unusable name'],
  ])('%s is refused and leaves nothing', async (_, serve, message, options = {}) => {
    server.serve = serve;
    await expect(cache(options).parts(hash, alive)).rejects.toThrow(message);
    expect([images(), temporary()]).toEqual([[], []]);
    expect(existsSync(join(directory, 'images', 'escape'))).toBe(false);
  });

  test.each<[string, Record<string, string>, string]>([
    ['without metadata.json', { bzImage: 'a' }, 'metadata.json not found'],
    ['whose metadata is no JSON', { 'metadata.json': '{' }, 'metadata.json is no JSON'],
    ['whose metadata lacks a member', { 'metadata.json': '{}' }, 'does not name'],
    ['whose metadata leads out', { 'metadata.json': METADATA.replace('bzImage', '../x') }, 'does not name'],
    ['whose kernel is not listed', { 'metadata.json': METADATA }, 'is not in sha256sum.txt'],
    ['with a listed path', { 'dir/a': 'a' }, 'unusable line'],
  ])('an image %s is refused', async (_, files, message) => {
    const image = imageArchive(files);
    server.serve = whole(image.archive);
    await expect(cache().parts(image.hash, alive)).rejects.toThrow(message);
    expect(images()).toEqual([]);
  });

  test('a link in the place of an image is no image', async () => {
    mkdirSync(join(directory, 'images', GOOD.hash), { recursive: true });
    symlinkSync('/etc/hostname', join(directory, 'images', GOOD.hash, 'metadata.json'));
    server.serve = whole(GOOD.archive);
    await cache().parts(GOOD.hash, alive);
    expect(lookups).toEqual(['miss']);
  });
});
