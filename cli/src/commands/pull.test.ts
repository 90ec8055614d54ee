import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { type Header, pack } from 'tar-stream';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Sandbox } from '../testing.ts';

// The command line is loaded cold, on a machine that may have much else to do.
vi.setConfig({ testTimeout: 120_000 });

const NAME = 'dstack-cloud-9.9.9';
const IMAGES = '.local/share/dstack-cloud/images';
/** Larger than what a socket holds, so that a connection breaks in the middle of it. */
const DISK = Buffer.alloc(3 * 1024 * 1024, 'GPT and so on');

let sandbox: Sandbox;
let server: Server;
let origin: string;
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let ranges: (string | undefined)[];
/** What stands beside the archive. */
let besideAnswer: (response: ServerResponse) => void;
beforeEach(async () => {
  sandbox = new Sandbox();
  ranges = [];
  besideAnswer = (response) => response.writeHead(404).end();
  server = createServer((request, response) => {
    if (request.url?.endsWith('.sha256')) return void besideAnswer(response);
    ranges.push(request.headers.range);
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
  sandbox.remove();
});

type Member = Partial<Header> & { readonly name: string; readonly data?: Buffer };

async function archive(...members: readonly Member[]): Promise<Buffer> {
  const tar = pack();
  for (const { data = Buffer.alloc(0), ...header } of members) tar.entry(header, data);
  tar.finalize();
  const parts: Buffer[] = [];
  for await (const part of tar as AsyncIterable<Buffer>) parts.push(part);
  // Stored, so that as much goes over the line as is inside.
  return gzipSync(Buffer.concat(parts), { level: 0 });
}

async function goodArchive(): Promise<Buffer> {
  return await archive(
    { name: `${NAME}/disk.raw`, data: DISK },
    { name: `${NAME}/auth_hash.txt`, data: Buffer.from(`${'ab'.repeat(32)}\n`) },
  );
}

/** Serves bytes with ranges, and as the entity that the tag names. */
function serve(bytes: Buffer, etag: string, breaksAt?: number): typeof answer {
  return (request, response) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const isPart = from > 0 && request.headers['if-range'] === etag;
    const part = isPart ? bytes.subarray(from) : bytes;
    const range = isPart ? { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {};
    response.writeHead(isPart ? 206 : 200, { etag, 'content-length': part.length, ...range });
    if (breaksAt === undefined) response.end(part);
    else response.write(part.subarray(0, breaksAt), () => setTimeout(() => response.destroy(), 50));
  };
}

/** What is in the folder of images, whole or not. */
function found(): string[] {
  return existsSync(sandbox.path(IMAGES)) ? readdirSync(sandbox.path(IMAGES)).sort() : [];
}

it('unpacks an archive of this host, by path and by file URL', async () => {
  const path = sandbox.path(`${NAME}-uki.tar.gz`);
  writeFileSync(path, await goodArchive());
  for (const given of [path, `file://${path}`]) {
    const { code, stdout, stderr } = await sandbox.run('pull', given);
    expect([code, stdout], stderr).toEqual([
      0,
      expect.stringContaining(`os-image-hash:  ${'ab'.repeat(32)}`),
    ]);
    expect(found()).toEqual([NAME]);
    expect(Buffer.compare(readFileSync(sandbox.path(IMAGES, NAME, 'disk.raw')), DISK)).toBe(0);
    expect((await sandbox.run('pull', given)).stderr).toContain(`image rm ${NAME}`);
    rmSync(sandbox.path(IMAGES, NAME), { recursive: true });
  }
}, 120_000);

it('goes on where a broken download was, when the server still has the same file', async () => {
  const bytes = await goodArchive();
  answer = serve(bytes, '"one"', 1_000_000);
  const broken = await sandbox.run('pull', `${origin}/${NAME}-uki.tar.gz`);
  expect([broken.code, broken.stderr]).toEqual([1, expect.stringContaining('it goes on where it was')]);
  expect(found()).not.toContain(NAME);
  answer = serve(bytes, '"one"');
  const { code, stderr } = await sandbox.run('pull', `${origin}/${NAME}-uki.tar.gz`);
  expect(code, stderr).toBe(0);
  expect(ranges).toEqual([undefined, expect.stringMatching(/^bytes=[1-9]\d*-$/)]);
  expect(found()).toEqual([NAME]);
  expect(Buffer.compare(readFileSync(sandbox.path(IMAGES, NAME, 'disk.raw')), DISK)).toBe(0);
});

it('begins from the start when the file at the server is another one', async () => {
  answer = serve(Buffer.concat([Buffer.alloc(2_000_000, 'x')]), '"old"', 1_000_000);
  await sandbox.run('pull', `${origin}/${NAME}-uki.tar.gz`);
  answer = serve(await goodArchive(), '"new"');
  expect((await sandbox.run('pull', `${origin}/${NAME}-uki.tar.gz`)).code).toBe(0);
  expect(Buffer.compare(readFileSync(sandbox.path(IMAGES, NAME, 'disk.raw')), DISK)).toBe(0);
});

it('takes only the archive of the hash that was asked for', async () => {
  const bytes = await goodArchive();
  answer = serve(bytes, '"one"');
  const url = `${origin}/${NAME}-uki.tar.gz`;
  const wrong = await sandbox.run('pull', url, '--sha256', '00'.repeat(32));
  expect([wrong.code > 0, wrong.stderr]).toEqual([true, expect.stringContaining('0000')]);
  expect(found().filter((name) => !name.startsWith('.'))).toEqual([]);
  const right = createHash('sha256').update(bytes).digest('hex');
  expect((await sandbox.run('pull', url, '--sha256', right)).code).toBe(0);
  expect((await sandbox.run('pull', url, '--sha256', 'abc')).code).toBe(2);
});

it.each<readonly [string, readonly Member[]]>([
  ['a name that leads out', [{ name: '../out', data: Buffer.from('x') }]],
  ['an absolute name', [{ name: '/tmp/out', data: Buffer.from('x') }]],
  ['a symbolic link', [{ name: 'a/disk.raw', type: 'symlink', linkname: '/etc/passwd' }]],
  ['a hard link', [{ name: 'a/disk.raw', type: 'link', linkname: '/etc/passwd' }]],
  ['a device', [{ name: 'a/disk.raw', type: 'block-device' }]],
  ['folders in folders', [{ name: 'a/b/disk.raw', data: Buffer.from('x') }]],
  [
    'the same file twice',
    [
      { name: 'a/x', data: Buffer.from('x') },
      { name: 'b/x', data: Buffer.from('y') },
    ],
  ],
  ['too many files', Array.from({ length: 65 }, (_, i) => ({ name: `a/f${i}`, data: Buffer.from('x') }))],
  [
    'a file that its list contradicts',
    [
      { name: 'a/x', data: Buffer.from('x') },
      { name: 'a/sha256sum.txt', data: Buffer.from(`${'00'.repeat(32)}  x\n`) },
    ],
  ],
])('refuses an archive with %s, and leaves nothing', async (_what, members) => {
  const path = sandbox.path(`${NAME}-uki.tar.gz`);
  writeFileSync(path, await archive(...members));
  const { code, stderr } = await sandbox.run('pull', path);
  expect([code > 0, stderr]).toEqual([true, expect.stringMatching(/no OS image|is damaged/)]);
  expect(found()).toEqual([]);
  expect(existsSync(sandbox.path('out'))).toBe(false);
});

it('refuses what is cut off, and what is no archive', async () => {
  const path = sandbox.path(`${NAME}-uki.tar.gz`);
  for (const bytes of [(await goodArchive()).subarray(0, 1_000_000), Buffer.from('hello')]) {
    writeFileSync(path, bytes);
    expect((await sandbox.run('pull', path)).code).toBeGreaterThan(0);
    expect(found()).toEqual([]);
  }
  for (const given of ['nginx', 'dstack-cloud', 'https://example.com/image.zip'])
    expect((await sandbox.run('pull', given)).code).toBe(2);
  answer = (_request, response) => void response.writeHead(404).end();
  const { stderr } = await sandbox.run('pull', `${origin}/${NAME}-uki.tar.gz`);
  expect(stderr).toContain('Check the name and the version');
});

it('reads no hash without end, and no archive from a pipe', async () => {
  answer = serve(await goodArchive(), '"one"');
  besideAnswer = (response) => {
    const more = (): void => {
      while (!response.destroyed && response.write('0'.repeat(1024)));
    };
    response.on('drain', more);
    more();
  };
  const endless = await sandbox.run('pull', `${origin}/${NAME}-uki.tar.gz`);
  expect([endless.code > 0, endless.stderr]).toEqual([true, expect.stringContaining('more than 4096 bytes')]);
  const pipe = sandbox.path(`${NAME}-uki.tar.gz`);
  execFileSync('mkfifo', [pipe]);
  const { code, stderr } = await sandbox.run('pull', pipe);
  expect([code > 0, stderr]).toEqual([true, expect.stringContaining('is not a regular file')]);
  expect(found().filter((name) => !name.endsWith('.part'))).toEqual([]);
});

it('does not write into the download of another one', async () => {
  const bytes = await goodArchive();
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const serving = serve(bytes, '"one"');
  let begun = (): void => undefined;
  const first = new Promise<void>((resolve) => {
    begun = resolve;
  });
  answer = (request, response) => {
    begun();
    void held.then(() => serving(request, response));
  };
  const pulls = sandbox.run('pull', `${origin}/${NAME}-uki.tar.gz`);
  await first;
  expect(await sandbox.run('pull', `${origin}/${NAME}-uki.tar.gz`)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('Another dstack-cloud pulls'),
  });
  release();
  expect(await pulls).toMatchObject({ code: 0 });
  expect(ranges).toHaveLength(1);
});
