import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { AttestationError } from '@dstack-cloud/attestation';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { imageArchive, tarOf } from '../test/image-archive.ts';
import { type ImageStore, imageStore, readImageMetadata } from './image-store.ts';
import { readTar } from './tar-reader.ts';

const METADATA = JSON.stringify({
  cmdline: 'console=ttyS0',
  kernel: 'bzImage',
  initrd: 'initramfs',
  bios: 'ovmf.fd',
});
const FILES = { 'metadata.json': METADATA, bzImage: 'kernel', initramfs: 'initrd', 'ovmf.fd': 'firmware' };

let server: Server;
let url: string;
let serve: RequestListener = () => undefined;
let requests: { range: string | undefined }[] = [];
let directory: string;

beforeAll(async () => {
  server = createServer((request, response) => {
    requests.push({ range: request.headers.range });
    serve(request, response);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/{OS_IMAGE_HASH}.tar.gz`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'kms-image-'));
  requests = [];
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const store = (timeoutSeconds = 10): ImageStore => imageStore({ directory, url, timeoutSeconds });
const answer =
  (archive: Uint8Array): RequestListener =>
  (_, response) =>
    response.end(archive);
const left = (): string[] =>
  readdirSync(join(directory, 'images', 'tmp')).filter((name) => !name.endsWith('.part'));

describe('imageStore (chapter 10 section 5.4)', () => {
  test('downloads, checks and keeps an image; two requests share one download', async () => {
    const { archive, bytes, hash } = imageArchive(FILES, [{ name: 'stray.txt', data: 'x' }]);
    serve = answer(archive);
    const images = store();
    const [path, same] = await Promise.all([images.directoryOf(bytes), images.directoryOf(bytes)]);
    expect([same, path]).toEqual([path, join(directory, 'images', hash)]);
    expect(readdirSync(path).sort()).toEqual([...Object.keys(FILES), 'sha256sum.txt'].sort());
    expect(await images.directoryOf(bytes)).toBe(path);
    expect(requests).toHaveLength(1);
    expect(await readImageMetadata(path)).toEqual(JSON.parse(METADATA));
    expect(left()).toEqual([]);
  });

  test('goes on with a download that broke off', async () => {
    const { archive, bytes, hash } = imageArchive(FILES);
    mkdirSync(join(directory, 'images', 'tmp'), { recursive: true });
    writeFileSync(join(directory, 'images', 'tmp', `${hash}.tar.gz.part`), archive.subarray(0, 100));
    serve = (request, response) => {
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1]);
      response.writeHead(206).end(archive.subarray(from));
    };
    await store().directoryOf(bytes);
    expect(requests).toEqual([{ range: 'bytes=100-' }]);
  });

  test.each([
    ['another image', imageArchive({ ...FILES, bzImage: 'other' }).archive, 'does not match sha256sum'],
    ['no archive', Uint8Array.of(1, 2, 3), 'cannot be unpacked'],
    ['an empty body', new Uint8Array(), 'cannot be unpacked'],
    ['an archive that is cut off', imageArchive(FILES).archive.subarray(0, 150), 'cannot be unpacked'],
    ['no checksum file', new Uint8Array(gzipSync(tarOf([{ name: 'a', data: 'b' }]))), 'has no sha256sum.txt'],
  ])('%s is refused and leaves nothing', async (_, archive, message) => {
    serve = answer(archive);
    await expect(store().directoryOf(imageArchive(FILES).bytes)).rejects.toThrow(message);
    expect(existsSync(join(directory, 'images', imageArchive(FILES).hash))).toBe(false);
    expect(left()).toEqual([]);
  });

  test.each([
    ['../escape', '0'],
    ['/etc/passwd', '0'],
    ['a/../../b', '0'],
    ['link', '2'],
    ['hard', '1'],
    ['device', '3'],
    ['a\nb', '0'],
  ])('an entry %j of type %s is refused', async (name, type) => {
    const { archive, bytes } = imageArchive(FILES, [{ name, type, data: type === '0' ? 'x' : '' }]);
    serve = answer(archive);
    await expect(store().directoryOf(bytes)).rejects.toThrow('The archive of the OS image holds');
    expect(existsSync(join(directory, '..', 'escape'))).toBe(false);
  });

  test('a file that is not what the list says, twice there, or missing', async () => {
    const changed = imageArchive(FILES, [{ name: 'bzImage', data: 'other' }]);
    serve = answer(changed.archive);
    await expect(store().directoryOf(changed.bytes)).rejects.toThrow('has bzImage twice');
    const { 'metadata.json': _metadata, ...rest } = FILES;
    const without = imageArchive(rest);
    serve = answer(without.archive);
    await expect(store().directoryOf(without.bytes)).rejects.toThrow('has no metadata.json');
  });

  test('an answer that is none, and one that never ends; a failure is not asked for again at once', async () => {
    const { bytes } = imageArchive(FILES);
    serve = (_, response) => response.writeHead(404).end();
    const images = store();
    await expect(images.directoryOf(bytes)).rejects.toThrow('HTTP status 404');
    await expect(images.directoryOf(bytes)).rejects.toThrow('HTTP status 404');
    expect(requests).toHaveLength(1);
    serve = (_, response) => response.write('x');
    await expect(store(1).directoryOf(bytes)).rejects.toThrow('Download image timeout');
  });
});

test('readTar throws nothing but its own error', async () => {
  const whole = tarOf([
    { name: 'a', data: 'x'.repeat(700) },
    { name: 'b/', type: '5' },
  ]);
  await fc.assert(
    fc.asyncProperty(
      fc.nat(whole.length - 1),
      fc.integer({ min: 1, max: 255 }),
      fc.nat(whole.length),
      async (at, mask, cut) => {
        const bytes = whole.slice(0, cut);
        if (at < cut) bytes[at]! ^= mask;
        const pieces = (async function* () {
          for (let i = 0; i < bytes.length; i += 97) yield bytes.subarray(i, i + 97);
        })();
        try {
          for await (const entry of readTar(pieces)) for await (const _ of entry.content()) void _;
        } catch (error) {
          expect(error).toBeInstanceOf(AttestationError);
        }
      },
    ),
  );
});

test('metadata that names files elsewhere is refused', async () => {
  writeFileSync(join(directory, 'metadata.json'), METADATA.replace('bzImage', '../../etc/shadow'));
  await expect(readImageMetadata(directory)).rejects.toThrow('lacks');
  expect(readFileSync(join(directory, 'metadata.json'), 'utf8')).toContain('shadow');
});
