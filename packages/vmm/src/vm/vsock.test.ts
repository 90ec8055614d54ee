import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { callGuest } from './call-guest.ts';
import { dialGuest } from './vsock.ts';

let dir: string;
let server: Server | undefined;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'vsock-'));
});
afterEach(() => {
  server?.close();
  rmSync(dir, { recursive: true, force: true });
});

/** Stands for the program that carries the guest's vsock. */
async function carrier(onData: (socket: Socket, text: string) => void): Promise<void> {
  server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => onData(socket, chunk.toString()));
  });
  await new Promise<void>((resolve) => server?.listen(join(dir, 'vm.vsock'), resolve));
}

describe('a connection to the guest', () => {
  it('begins after the carrier’s answer, with every byte of the guest', async () => {
    await carrier((socket, text) => void (text === 'CONNECT 8000\n' && socket.end('OK 1073741824\nhello\n')));
    const socket = await dialGuest(dir, 8000);
    let all = '';
    for await (const chunk of socket) all += String(chunk);
    expect(all).toBe('hello\n');
  });

  it('is an error when nobody listens, and when the answer is none', async () => {
    await expect(dialGuest(dir, 8000)).rejects.toMatchObject({ code: 'not_running' });
    await carrier((socket) => socket.destroy());
    await expect(dialGuest(dir, 8000)).rejects.toMatchObject({ code: 'not_running' });
    server?.close();
    rmSync(join(dir, 'vm.vsock'), { force: true });
    await carrier((socket) => socket.write('x'.repeat(100)));
    await expect(dialGuest(dir, 8000)).rejects.toMatchObject({ code: 'not_running' });
  });
});

describe('a call of the guest agent', () => {
  it('is one request over that connection', async () => {
    await carrier((socket, text) => {
      if (text.startsWith('CONNECT')) return void socket.write('OK 1\n');
      expect(text).toMatch(/^POST \/api\/Info\?json HTTP\/1\.1\r\n/);
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"version":"1"}');
    });
    expect(await callGuest(dir, 'Info')).toEqual({ version: '1' });
  });

  it('that refuses, or says nothing, is an error', async () => {
    let reply = 'HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nlate';
    await carrier((socket, text) => void socket.write(text.startsWith('CONNECT') ? 'OK 1\n' : reply));
    await expect(callGuest(dir, 'Info')).rejects.toThrow(/refuses Info: late/);
    reply = 'HTTP/1.1';
    await expect(callGuest(dir, 'Info', {}, 100)).rejects.toMatchObject({ code: 'not_running' });
  });
});
