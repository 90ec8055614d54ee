/** Pulls from a registry on the loopback that speaks the real protocol, first as it should, then with every lie we know. */
import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import type { ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as zlib from 'node:zlib';
import { gzipSync } from 'node:zlib';
import { type ArchiveEntry, tarOf } from '@dstack-cloud/test/tar-of';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { imageTar, RegistryLab } from '../test/registry-lab.ts';
import { writeTinyImage } from '../test/tiny-image.ts';
import { pullImage } from './pull-image.ts';
import { parseRegistry } from './registry-address.ts';
import { RegistryClient } from './registry-client.ts';
import { RegistryImages } from './registry-images.ts';

const BASIC = `Basic ${Buffer.from('alice:wonder:land').toString('base64')}`;
const ZSTD = 'application/vnd.oci.image.layer.v1.tar+zstd';

let root: string;
let imagePath: string;
let source: string;
let lab: RegistryLab;
let images: RegistryImages;
/** Tags whose pull has ended. */
let ended: string[];
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'vmm-registry-'));
  imagePath = join(root, 'image');
  source = writeTinyImage(join(root, 'source'), 'tiny', 'sleeps');
  lab = new RegistryLab();
  await lab.start();
  images = imagesOf(lab.address);
});
afterEach(async () => {
  await images.close();
  await lab.stop();
  rmSync(root, { recursive: true, force: true });
});

function imagesOf(registry: string, authFile = ''): RegistryImages {
  ended = [];
  const tell = (tag: string): void => void ended.push(tag);
  const options = { registry, authFile, imagePath, pulled: tell, failed: tell };
  return new RegistryImages(options, { pauseMs: 5 });
}

const row = async (tag: string) => (await images.list()).find((one) => one.tag === tag);

/** Pulls and waits until that has ended. @returns why it failed */
async function pulled(tag: string): Promise<string> {
  await images.pull(tag);
  await expect.poll(async () => (await row(tag))?.pulling, { timeout: 20_000, interval: 20 }).toBe(false);
  return (await row(tag))?.error ?? 'no such tag';
}

/** Nothing that looks like an image, or like a half of one, and no connection. */
async function expectNothing(): Promise<void> {
  expect(readdirSync(root).sort()).toEqual(['image', 'source']);
  expect(readdirSync(imagePath)).toEqual([]);
  await expect.poll(() => lab.connections).toBe(0);
}

const filesOf = (folder: string) =>
  Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]));

describe('an image of the registry', () => {
  it.each([false, true])(
    'is listed and pulled, byte for byte; a token is asked for: %s',
    async (needsToken) => {
      lab.needsToken = needsToken;
      for (const tag of ['dstack-0.6.0', 'dstack-0.6.1', 'dstack-dev-0.6.0'])
        lab.publish(tag, [imageTar(source)]);
      lab.put('..', 'x', {});
      expect((await images.list()).map(({ tag }) => tag)).toEqual([
        'dstack-0.6.0',
        'dstack-0.6.1',
        'dstack-dev-0.6.0',
      ]);
      expect(await pulled('dstack-0.6.1')).toBe('');
      expect(await images.list()).toEqual([
        { tag: 'dstack-0.6.0', local: false, pulling: false, progress: '', error: '' },
        { tag: 'dstack-0.6.1', local: true, pulling: false, progress: '', error: '' },
        { tag: 'dstack-dev-0.6.0', local: false, pulling: false, progress: '', error: '' },
      ]);
      expect(filesOf(join(imagePath, 'dstack-0.6.1'))).toEqual(filesOf(source));
      expect(readdirSync(imagePath)).toEqual(['dstack-0.6.1']);
      await expect(images.pull('dstack-0.6.1')).rejects.toMatchObject({ code: 'already_exists' });
    },
  );

  it('may be an index, layers of several kinds, and a layer above another', async () => {
    const { 'metadata.json': metadata, ...others } = filesOf(source);
    const below = tarOf([
      { name: 'metadata.json', data: 'replaced' },
      { name: './', type: '5' },
    ]);
    const files = Object.entries(others).map(([name, data]) => ({ name: `./${name}`, data }));
    const image = lab.publish('by-digest', [
      below,
      { bytes: tarOf(files), type: 'application/vnd.oci.image.layer.v1.tar' },
      {
        bytes: new Uint8Array(gzipSync(tarOf([{ name: 'metadata.json', data: metadata! }]))),
        type: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
      },
    ]);
    lab.publishIndex('0.6.0', image);
    expect(await pulled('0.6.0')).toBe('');
    expect(filesOf(join(imagePath, '0.6.0'))).toEqual(filesOf(source));
  });

  describe('behind a password', () => {
    const login = (entry: object, name = new URL(lab.origin).host): string => {
      const file = join(root, 'source', 'config.json');
      writeFileSync(file, JSON.stringify({ auths: { 'other.example': {}, [name]: entry } }));
      return file;
    };
    beforeEach(() => {
      lab.publish('0.6.0', [imageTar(source)]);
      lab.password = BASIC;
    });

    it.each([false, true])('is pulled, also with a token that the password gets: %s', async (needsToken) => {
      lab.needsToken = needsToken;
      images = imagesOf(lab.address, login({ auth: BASIC.slice(6) }));
      expect(await pulled('0.6.0')).toBe('');
      expect(filesOf(join(imagePath, '0.6.0'))).toEqual(filesOf(source));
    });

    it('that belongs to its part of the registry alone, and may change while the service runs', async () => {
      const name = lab.address.replace('http://', '');
      images = imagesOf(lab.address, login({ auth: btoa('alice:old') }, name));
      await expect(images.list()).rejects.toThrow(/HTTP 401/);
      login({ auth: BASIC.slice(6) }, name);
      expect(await images.list()).toHaveLength(1);
    });

    it.each<[string, RegExp, () => string]>([
      ['without one', /wants a password; name a file .*registry_auth_file/, () => ''],
      ['of another', /no password for 127\.0\.0\.1:\d+; write one with docker login/, () => login({}, 'x')],
      ['kept by a helper', /no password for .*without a credential helper/, () => login({})],
      ['that is a token', /has a token for .*not a password/, () => login({ identitytoken: 'secret' })],
      ['without a user', /auth is not base64 of USER:PASSWORD/, () => login({ auth: btoa('secret') })],
      ['no base64', /auth is not base64/, () => login({ auth: 'a:b' })],
      ['in no such file', /source\/config\.json does not exist/, () => join(root, 'source', 'config.json')],
      ['that is wrong', /HTTP 401 for/, () => login({ auth: btoa('alice:secret') })],
    ])('is not read %s', async (_name, message, file) => {
      images = imagesOf(lab.address, file());
      const error = (await images.list().catch((cause: unknown) => cause)) as Error;
      expect(error.message).toMatch(message);
      expect(error.message).not.toContain('secret');
    });
  });

  it.each([true, false])(
    'that breaks off goes on where it ended; parts can be had: %s',
    async (hasRanges) => {
      lab.hasRanges = hasRanges;
      const bytes = new Uint8Array(gzipSync(imageTar(source)));
      lab.publish('0.6.0', [{ bytes, type: 'application/vnd.oci.image.layer.v1.tar+gzip' }]);
      let breaks = 0;
      lab.fault = (request, response) => {
        if (!request.url?.includes('/blobs/') || breaks === 3) return false;
        breaks += 1;
        const from = lab.hasRanges ? Number(/=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0) : 0;
        const part = { 'Content-Range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` };
        response.writeHead(from > 0 ? 206 : 200, {
          'Content-Length': bytes.length - from,
          ...(from > 0 && part),
        });
        response.write(bytes.subarray(from, 20 * breaks), () => setTimeout(() => response.destroy(), 20));
        return true;
      };
      expect(await pulled('0.6.0')).toBe('');
      expect(breaks).toBe(3);
      expect(filesOf(join(imagePath, '0.6.0'))).toEqual(filesOf(source));
    },
  );

  it.skipIf(!('zstdCompressSync' in zlib))('may be packed with zstd', async () => {
    const { zstdCompressSync } = zlib as unknown as { zstdCompressSync(bytes: Uint8Array): Uint8Array };
    lab.publish('0.6.0', [{ bytes: new Uint8Array(zstdCompressSync(imageTar(source))), type: ZSTD }]);
    expect(await pulled('0.6.0')).toBe('');
    expect(filesOf(join(imagePath, '0.6.0'))).toEqual(filesOf(source));
  });

  it('follows redirects of the registry itself', async () => {
    lab.publish('0.6.0', [imageTar(source)]);
    lab.fault = ({ url = '' }, response) => {
      if (!url.includes('/blobs/') || url.includes('stored')) return false;
      response.writeHead(307, { Location: `${url}?stored` }).end();
      return true;
    };
    expect(await pulled('0.6.0')).toBe('');
  });

  it('comes from another host over https, which sees neither token nor password', async () => {
    const [key, cert] = ['key', 'cert'].map((name) => join(root, 'source', name)) as [string, string];
    const names = ['-subj', '/CN=blobs', '-addext', 'subjectAltName=IP:127.0.0.2'];
    const made = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1'];
    execFileSync('openssl', ['req', ...made, '-keyout', key, '-out', cert, ...names], { stdio: 'ignore' });
    lab.publish('0.6.0', [imageTar(source)]);
    lab.needsToken = true;
    lab.password = BASIC;
    const seen: (string | undefined)[] = [];
    const store = createServer(
      { key: readFileSync(key), cert: readFileSync(cert) },
      ({ url, headers }, response) => {
        seen.push(headers.authorization);
        if (seen.length === 1) return end(response, 401, { 'WWW-Authenticate': 'Basic' });
        return response.end(lab.blobs.get(url?.slice(1) ?? ''));
      },
    );
    await new Promise<void>((resolve) => store.listen(0, '127.0.0.2', resolve));
    try {
      const { port } = store.address() as AddressInfo;
      lab.fault = ({ url = '' }, r) =>
        url.includes('/blobs/') &&
        end(r, 307, { Location: `https://127.0.0.2:${port}/${url.split('/').at(-1)}` });
      const pull = async (reach: object): Promise<void> => {
        const client = new RegistryClient(parseRegistry(lab.address)!, reach, async () => BASIC);
        const { signal } = new AbortController();
        await pullImage(client, { tag: '0.6.0', imagePath, signal, progress: () => undefined });
      };
      const mayReach = (address: string): boolean => address === '127.0.0.2';
      await expect(pull({ mayReach })).rejects.toMatchObject({
        code: 'registry_failed',
        message: expect.stringContaining('SELF_SIGNED'),
      });
      const known = { mayReach, ca: readFileSync(cert, 'utf8') };
      await expect(pull(known)).rejects.toThrow(/HTTP 401 of 127\.0\.0\.2:\d+, to which it redirects/);
      await pull(known);
      expect(lab.credentials).toEqual(new Set([undefined, BASIC, 'Bearer token-for-anybody']));
      expect(seen).toEqual([undefined, undefined]);
    } finally {
      store.close();
    }
  });

  it('is fetched once when two ask for it at once, and two at a time in all', async () => {
    const waiting: ServerResponse[] = [];
    for (const tag of ['a', 'b', 'c']) lab.publish(tag, [imageTar(source)]);
    lab.fault = ({ url = '' }, response) => {
      if (!url.includes('/blobs/')) return false;
      waiting.push(response);
      return true;
    };
    await Promise.all([images.pull('a'), images.pull('a'), images.pull('b')]);
    await expect.poll(() => waiting.length).toBe(2);
    await expect(images.pull('c')).rejects.toMatchObject({ code: 'no_resources', found: 'a, b' });
    expect(await row('a')).toMatchObject({ pulling: true, progress: 'begins', local: false });
    expect(lab.requests.filter((line) => line.includes('manifests/a'))).toHaveLength(1);
    await images.close();
    await expectNothing();
  });

  it('that is there already is not touched, be it a file, a link or half of one', async () => {
    lab.publish('0.6.0', [imageTar(source)]);
    mkdirSync(join(imagePath, '0.6.0'), { recursive: true });
    writeFileSync(join(imagePath, '0.6.0', 'precious'), 'kept');
    expect(await pulled('0.6.0')).toMatch(/There is an image 0\.6\.0 already/);
    rmSync(join(imagePath, '0.6.0'), { recursive: true });
    symlinkSync(join(root, 'elsewhere'), join(imagePath, '0.6.0'));
    await expect(images.pull('0.6.0')).rejects.toMatchObject({ code: 'already_exists' });
    expect(readdirSync(root).sort()).toEqual(['image', 'source']);
  });
});

describe('without a usable registry', () => {
  it('nothing is pulled, and why is said', async () => {
    const none = imagesOf('');
    await expect(none.list()).rejects.toMatchObject({
      code: 'bad_config',
      message: expect.stringMatching(/image\.registry/),
    });
    await expect(none.pull('0.6.0')).rejects.toMatchObject({ code: 'bad_config' });
    await lab.stop();
    await expect(images.list()).rejects.toMatchObject({
      code: 'registry_failed',
      message: expect.stringContaining('ECONNREFUSED'),
    });
    await lab.start();
  });

  it.each(['', '.', '..', '../x', 'a/b', '.hidden', 'x'.repeat(65), 'a..b', 'a\nb', 'ä', '-x', 'a b', 'a\0'])(
    'the tag %j is refused before anything is asked',
    async (tag) => {
      await expect(images.pull(tag)).rejects.toMatchObject({ code: 'bad_option' });
      expect(lab.requests).toEqual([]);
    },
  );

  it.each([
    ['registry.example.com/dstack/images', 'https://registry.example.com'],
    ['registry.example.com:5000/a', 'https://registry.example.com:5000'],
    ['https://registry.example.com/a/b-c_d', 'https://registry.example.com'],
    ['docker.io/dstack/images', 'https://registry-1.docker.io'],
    ['http://127.0.0.1:5000/a', 'http://127.0.0.1:5000'],
    ['http://localhost/a', 'http://localhost'],
    ['http://[::1]:5000/a', 'http://[::1]:5000'],
  ])('%s is an address', (text, origin) => expect(parseRegistry(text)?.origin).toBe(origin));

  it.each([
    ...['x', 'http://registry.example.com/a', 'http://10.0.0.1/a', 'ftp://x/a', 'https://user:secret@x/a'],
    ...[
      'x/A',
      'x/../a',
      'x/a//b',
      'x/a/',
      'x/a?b',
      'x/a#b',
      'x/a b',
      'file:///etc/a',
      `x/${'a'.repeat(300)}`,
      '/a',
    ],
  ])('%s is none', (text) => expect(parseRegistry(text)).toBeUndefined());
});

const blobFault =
  (answer: (response: ServerResponse) => void) =>
  ({ url = '' }: { url?: string | undefined }, response: ServerResponse): boolean => {
    if (!url.includes('/blobs/')) return false;
    answer(response);
    return true;
  };
const end = (r: ServerResponse, status: number, headers: Record<string, string> = {}, body = ''): true => {
  r.writeHead(status, headers).end(body);
  return true;
};
const redirect = (location: string) =>
  blobFault((response) => response.writeHead(302, { Location: location }).end());

describe('a registry that lies', () => {
  it.each<[string, RegExp, () => void]>([
    [
      'sends another layer',
      /blob digest mismatch/,
      () => (lab.fault = blobFault((r) => r.end(gzipSync(tarOf([{ name: 'a' }]))))),
    ],
    [
      'sends one bit of it changed',
      /blob digest mismatch/,
      () => {
        const [digest, bytes] = [...lab.blobs].find(([, { length }]) => length > 100)!;
        const changed = bytes.slice();
        // Of the header of gzip: it unpacks to the same.
        changed[4]! ^= 1;
        lab.blobs.set(digest, changed);
      },
    ],
    [
      'sends more than it announced',
      /more than \d+ bytes/,
      () => (lab.fault = blobFault((r) => r.end(Buffer.alloc(2 ** 20)))),
    ],
    [
      'never stops sending',
      /more than \d+ bytes/,
      () =>
        (lab.fault = blobFault((r) => {
          const more = (): void => void (r.destroyed || r.write(Buffer.alloc(65_536), more));
          more();
        })),
    ],
    [
      'breaks off',
      /failed to read blob body/,
      () =>
        (lab.fault = blobFault((r) => {
          r.writeHead(200, { 'Content-Length': 500 });
          r.write([...lab.blobs.values()][0]!.subarray(0, 100));
          setTimeout(() => r.destroy(), 20);
        })),
    ],
    [
      'ends early',
      /blob digest mismatch|end of file|no gzip/,
      () => (lab.fault = blobFault((r) => r.end('half'))),
    ],
    ['has no such layer', /HTTP 404/, () => (lab.fault = blobFault((r) => r.writeHead(404).end()))],
    ['fails', /HTTP 500/, () => (lab.fault = blobFault((r) => r.writeHead(500).end()))],
    [
      'wants a password',
      /HTTP 401/,
      () => (lab.fault = (_, r) => end(r, 401, { 'WWW-Authenticate': 'Basic' })),
    ],
    [
      'gives no token',
      /HTTP 403 where it gives tokens/,
      () => {
        lab.needsToken = true;
        lab.fault = ({ url = '' }, r) => url.startsWith('/token') && end(r, 403);
      },
    ],
    [
      'gives a token with a line of its own',
      /gives no token/,
      () => {
        lab.needsToken = true;
        lab.fault = ({ url = '' }, r) =>
          url.startsWith('/token') && end(r, 200, {}, '{"token": "a\\r\\nX: y"}');
      },
    ],
    [
      'wants every token again',
      /HTTP 401/,
      () =>
        (lab.fault = ({ url = '' }, r) => {
          if (url.startsWith('/token')) return false;
          r.writeHead(401, { 'WWW-Authenticate': `Bearer realm="${lab.origin}/token"` }).end();
          return true;
        }),
    ],
    [
      'asks for tokens on the loopback',
      /is not https/,
      () =>
        (lab.fault = (_, r) =>
          end(r, 401, { 'WWW-Authenticate': 'Bearer realm="http://127.0.0.1:1/token"' })),
    ],
    [
      'sends us to the metadata service',
      /is not https/,
      () => (lab.fault = redirect('http://169.254.169.254/latest/meta-data')),
    ],
    [
      'sends us to it over https',
      /169\.254\.169\.254, which is this host or a private network/,
      () => (lab.fault = redirect('https://169.254.169.254/')),
    ],
    ['sends us to the loopback', /private network/, () => (lab.fault = redirect('https://127.0.0.1:1/'))],
    [
      'sends us to it by name',
      /localhost, which is this host/,
      () => (lab.fault = redirect('https://localhost:1/')),
    ],
    ['sends us to it in other digits', /private network/, () => (lab.fault = redirect('https://0x7f.1/'))],
    [
      'sends us to it by a mapped address',
      /private network/,
      () => (lab.fault = redirect('https://[::ffff:127.0.0.1]/')),
    ],
    ['sends us to a private network', /private network/, () => (lab.fault = redirect('https://10.1.2.3/'))],
    ['sends us to a file', /is not https/, () => (lab.fault = redirect('file:///etc/passwd'))],
    [
      'sends us with a password',
      /is not https/,
      () => (lab.fault = redirect('https://a:b@registry.example.com/')),
    ],
    [
      'sends us round and round',
      /more than 5 redirects/,
      () => (lab.fault = ({ url }, r) => end(r, 302, { Location: url! })),
    ],
    [
      'has a manifest that is none',
      /its manifest is none of an image/,
      () => lab.put('0.6.0', 'x', { schemaVersion: 2 }),
    ],
    [
      'has a manifest that is no JSON',
      /no JSON/,
      () => lab.manifests.set('0.6.0', { type: 'x', bytes: Buffer.from('{') }),
    ],
    [
      'has a manifest without end',
      /more than 4194304 bytes/,
      () => lab.manifests.set('0.6.0', { type: 'x', bytes: Buffer.alloc(5e6, ' ') }),
    ],
    [
      'has an index of other machines',
      /no image for linux\/amd64/,
      () =>
        lab.put('0.6.0', 'x', {
          manifests: [
            {
              mediaType: 'x',
              digest: `sha256:${'0'.repeat(64)}`,
              size: 1,
              platform: { os: 'linux', architecture: 'arm64' },
            },
          ],
        }),
    ],
    [
      'has another manifest under a digest',
      /manifest digest mismatch/,
      () => {
        const image = lab.publish('0.6.1', [imageTar(source)]);
        lab.publishIndex('0.6.0', image);
        lab.manifests.set(image, lab.manifests.get('attestation')!);
      },
    ],
    [
      'announces an impossible size',
      /too large/,
      () => lab.publish('0.6.0', [imageTar(source)], (layer) => ({ ...layer, size: 2 ** 50 })),
    ],
    [
      'has a layer in zstd that is none',
      'zstdCompressSync' in zlib
        ? /a layer is no zstd file/
        : /needs Node 22\.15 or later, and this is Node 2/,
      () => lab.publish('0.6.0', [{ bytes: Buffer.from('not zstd'), type: ZSTD }]),
    ],
    [
      'has a layer in xz',
      /layer of another kind/,
      () => lab.publish('0.6.0', [{ bytes: Buffer.from('x'), type: ZSTD.replace('zstd', 'xz') }]),
    ],
    [
      'sends other bytes when it goes on',
      /it sends other bytes \(bytes 0-1\/2\)/,
      () =>
        (lab.fault = (request, r) => {
          if (!request.url?.includes('/blobs/')) return false;
          if (request.headers.range !== undefined) return end(r, 206, { 'Content-Range': 'bytes 0-1/2' });
          r.writeHead(200, { 'Content-Length': 500 });
          r.write([...lab.blobs.values()][0]!.subarray(0, 100));
          setTimeout(() => r.destroy(), 20);
          return true;
        }),
    ],
    [
      'has a digest that is a path',
      /its manifest is none/,
      () =>
        lab.publish('0.6.0', [imageTar(source)], (layer) => ({ ...layer, digest: 'sha256:../../secret' })),
    ],
  ])('%s: refused, and nothing is left', async (_name, message, lie) => {
    lab.publish('0.6.0', [imageTar(source)]);
    mkdirSync(imagePath);
    lie();
    await images.pull('0.6.0');
    await expect.poll(() => ended, { timeout: 20_000 }).toHaveLength(1);
    lab.fault = () => false;
    await expect
      .poll(() => row('0.6.0'), { timeout: 20_000 })
      .toMatchObject({ pulling: false, local: false, error: expect.stringMatching(message) });
    await expectNothing();
  });

  it('sends slowly: given up', async () => {
    lab.publish('0.6.0', [imageTar(source)]);
    mkdirSync(imagePath);
    lab.fault = blobFault((r) => {
      r.writeHead(200);
      // A header of gzip, and then what it holds, by the byte.
      r.write([...lab.blobs.values()][0]!.subarray(0, 10));
      const drip = setInterval(() => r.write('\0'), 500);
      r.once('close', () => clearInterval(drip));
    });
    const client = new RegistryClient(parseRegistry(lab.address)!, { spanMs: 200 });
    const { signal } = new AbortController();
    const options = { tag: '0.6.0', imagePath, signal, progress: () => undefined };
    await expect(pullImage(client, options)).rejects.toMatchObject({
      code: 'registry_failed',
      message: expect.stringMatching(/fewer than/),
    });
    lab.fault = () => true;
    const impatient = new RegistryClient(parseRegistry(lab.address)!, { answerMs: 200 });
    await expect(impatient.tags(signal)).rejects.toMatchObject({
      message: expect.stringMatching(/does not answer within 200 ms/),
    });
    await expectNothing();
  });

  const archive = (entries: readonly ArchiveEntry[]) => imageTar(source, entries);
  it.each<[string, RegExp, () => Uint8Array]>([
    ['a path upwards', /leads out of it/, () => archive([{ name: '../escaped', data: 'x' }])],
    ['an absolute path', /absolute path/, () => archive([{ name: '/tmp/escaped', data: 'x' }])],
    ['a symbolic link', /neither file nor directory/, () => archive([{ name: 'link', type: '2' }])],
    ['a hard link', /neither file nor directory/, () => archive([{ name: 'link', type: '1' }])],
    ['a device', /neither file nor directory/, () => archive([{ name: 'null', type: '3' }])],
    ['a FIFO', /neither file nor directory/, () => archive([{ name: 'fifo', type: '6' }])],
    ['a folder', /it has a folder/, () => archive([{ name: 'a/', type: '5' }])],
    ['a file in a folder', /a name that no image has/, () => archive([{ name: 'a/b', data: 'x' }])],
    ['a hidden file', /a name that no image has/, () => archive([{ name: '.wh.metadata.json' }])],
    ['a file twice', /twice/, () => archive([{ name: 'metadata.json', data: 'x' }])],
    ['a long name', /a name that no image has/, () => archive([{ name: 'x'.repeat(90) }])],
    ['a name in two lines', /unusable name/, () => archive([{ name: 'a\nb' }])],
    [
      'hundreds of files',
      /more than 256 files/,
      () => archive(Array.from({ length: 300 }, (_, i) => ({ name: `f${i}` }))),
    ],
    [
      'something after its end',
      /goes on after its end/,
      () => new Uint8Array(Buffer.concat([imageTar(source), Buffer.alloc(512, 'x')])),
    ],
    ['no end', /ends early/, () => imageTar(source).slice(0, 3000)],
    ['nothing', /is not an OS image|ends early/, () => tarOf([])],
    [
      'no metadata',
      /is not an OS image: metadata\.json is missing/,
      () => tarOf([{ name: 'bzImage', data: 'x' }]),
    ],
  ])('has a layer with %s: refused, and nothing is written elsewhere', async (_name, message, layer) => {
    mkdirSync(imagePath);
    for (const one of [layer(), { bytes: layer(), type: 'application/vnd.oci.image.layer.v1.tar' }]) {
      lab.publish('0.6.0', [one]);
      expect(await pulled('0.6.0')).toMatch(message);
      await expectNothing();
    }
  });

  it('has a layer that unpacks without end: refused at the bound', async () => {
    mkdirSync(imagePath);
    lab.publish('0.6.0', [tarOf([{ name: 'zeros', data: new Uint8Array(8 << 20) }])]);
    const client = new RegistryClient(parseRegistry(lab.address)!);
    const { signal } = new AbortController();
    const options = { tag: '0.6.0', imagePath, signal, maxBytes: 1 << 20, progress: () => undefined };
    await expect(pullImage(client, options)).rejects.toMatchObject({
      code: 'bad_image',
      message: expect.stringContaining('more than 1048576 bytes'),
    });
    await expectNothing();
  });

  it('has an image whose files are not those of its own list: refused', async () => {
    mkdirSync(imagePath);
    writeFileSync(join(source, 'bzImage'), 'another kernel');
    lab.publish('0.6.0', [imageTar(source)]);
    expect(await pulled('0.6.0')).toMatch(/0\.6\.0\/bzImage is not the file that the image was built with/);
    await expectNothing();
  });
});
