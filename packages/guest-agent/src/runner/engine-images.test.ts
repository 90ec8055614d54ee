import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { imagesByApi } from './engine-images.ts';

let folder: string;
let server: Server | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'engine-images-'));
});
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  rmSync(folder, { recursive: true, force: true });
});

async function docker(answer: RequestListener): Promise<string> {
  const socket = join(folder, 'docker.sock');
  server = createServer(answer);
  await new Promise<void>((resolve) => server?.listen(socket, resolve));
  return socket;
}

const ID = `sha256:${'ab'.repeat(32)}`;

async function* pieces(count: number): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < count; i++) yield new Uint8Array(64 * 1024).fill(i);
}

async function* broken(): AsyncGenerator<Uint8Array> {
  yield new Uint8Array(8);
  throw new Error('the disk is damaged');
}

it('asks Docker for an image by its name, and takes only "no such image" for none', async () => {
  const asked: string[] = [];
  let status = 200;
  const socket = await docker((request, response) => {
    asked.push(request.url ?? '');
    response
      .writeHead(status)
      .end(JSON.stringify(status === 200 ? { Id: ID } : { message: 'no such image' }));
  });
  const images = imagesByApi(socket);
  expect(await images.idOf('docker.io/library/one:1?x')).toBe(ID);
  expect(asked).toEqual(['/images/docker.io/library/one%3A1%3Fx/json']);
  status = 404;
  expect(await images.idOf('one')).toBeUndefined();
  status = 500;
  await expect(images.idOf('one')).rejects.toMatchObject({ code: 'start-failed' });
  await expect(imagesByApi(join(folder, 'nobody')).idOf('one')).rejects.toMatchObject({
    code: 'start-failed',
  });
});

it('refuses an answer that names no image', async () => {
  const socket = await docker((_request, response) => response.end('{"Id":7}'));
  await expect(imagesByApi(socket).idOf('one')).rejects.toMatchObject({ code: 'start-failed' });
});

it('sends an archive as it comes', async () => {
  let size = 0;
  const socket = await docker((request, response) => {
    expect(`${request.method} ${request.url}`).toBe('POST /images/load?quiet=true');
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
    });
    request.on('end', () => response.end('{"stream":"Loaded image: one"}\r\n'));
  });
  await imagesByApi(socket).load('000.tar', pieces(100));
  expect(size).toBe(100 * 64 * 1024);
});

it.each([
  ['a line of an answer that began well', 200, '{"stream":"x"}\n{"error":"no space left on device"}\n'],
  ['a status', 500, '{"message":"no space left on device"}'],
])('tells why Docker does not load an image: %s', async (_how, status, text) => {
  const socket = await docker((request, response) => {
    request.resume();
    request.on('end', () => response.writeHead(status).end(text));
  });
  await expect(imagesByApi(socket).load('000.tar', pieces(3))).rejects.toMatchObject({
    code: 'start-failed',
    message: expect.stringMatching(/does not load the image archive 000\.tar: .*no space left on device$/),
  });
});

it('has not loaded an image when Docker ends', async () => {
  const socket = await docker((request) => {
    request.once('data', () => request.socket.destroy());
  });
  await expect(imagesByApi(socket).load('000.tar', pieces(1000))).rejects.toMatchObject({
    code: 'start-failed',
  });
});

it('has not loaded an image whose archive cannot be read', async () => {
  const socket = await docker((request) => request.resume());
  await expect(imagesByApi(socket).load('000.tar', broken())).rejects.toMatchObject({ code: 'start-failed' });
});

it('has not loaded an image when the answer is no progress', async () => {
  const socket = await docker((request, response) => {
    request.resume();
    request.on('end', () => response.end('fine'));
  });
  await expect(imagesByApi(socket).load('000.tar', pieces(1))).rejects.toMatchObject({
    code: 'start-failed',
  });
});
