import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttp, type Server } from 'node:http';
import { createServer, type Server as NetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CvmStatus } from '@dstack-cloud/vmm';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Context } from '../../context.ts';
import { containerLogs, journalOfGuest } from './container-logs.ts';

let dir: string;
let guest: NetServer;
let agent: Server;
let asked: string[];
let status = 200;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'container-logs-'));
  asked = [];
  status = 200;
  const containers = JSON.stringify({ containers: [{ names: ['/dstack-web-1'] }, { names: ['/other'] }] });
  // Stands for the program that carries the guest's vsock, and the guest behind it.
  guest = createServer((socket) =>
    socket.on('data', (data) => {
      if (data.toString().startsWith('CONNECT')) return void socket.write('OK 1\n');
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${containers.length}\r\n\r\n${containers}`);
    }),
  );
  await new Promise<void>((resolve) => guest.listen(join(dir, 'vm.vsock'), resolve));
  agent = createHttp((request, response) => {
    asked.push(request.url ?? '');
    response.writeHead(status).end('one\ntwo\u{1b}[2J\nthree');
  });
  await new Promise<void>((resolve) => agent.listen(0, '127.0.0.1', resolve));
});
afterEach(() => {
  guest.close();
  agent.close();
  rmSync(dir, { recursive: true, force: true });
});

async function logs(
  container: string | undefined,
  state: object = {},
): Promise<{ printed: string[]; result: unknown }> {
  const printed: string[] = [];
  let result: unknown;
  const context = {
    print: (line: string) => printed.push(line),
    result: (value: unknown) => {
      result = value;
    },
    signal: new AbortController().signal,
    unread: new AbortController().signal,
  } as unknown as Context;
  const { port } = agent.address() as { port: number };
  const urls = { agent: `http://127.0.0.1:${port}` };
  const machine = { name: 'app', state: { status: 'running', run_dir: dir, urls, ...state } };
  const request = { container, journal: container === undefined, lines: 5, follow: false };
  if (container === undefined) await journalOfGuest(context, machine as unknown as CvmStatus, request);
  else await containerLogs(context, machine as unknown as CvmStatus, { ...request, container });
  return { printed, result };
}

it('are those of a service or of a container, and can command no terminal', async () => {
  const { printed, result } = await logs('web');
  expect(printed).toEqual(['one', 'two\\u{1b}[2J', 'three']);
  expect(result).toEqual({ lines: ['one', 'two\u{1b}[2J', 'three'] });
  await logs('other');
  expect(asked).toEqual(['dstack-web-1', 'other'].map((name) => `/logs/${name}?text=true&bare=true&tail=5`));
});

it('of a name that is none, of an application that keeps them, or of a machine that does not run, are an error', async () => {
  await expect(logs('db')).rejects.toMatchObject({ code: 'bad_argument', expected: 'dstack-web-1, other' });
  status = 404;
  await expect(logs('web')).rejects.toMatchObject({ expected: 'public_logs true in app.json' });
  await expect(logs('web', { status: 'stopped', run_dir: null })).rejects.toMatchObject({
    code: 'not_deployed',
  });
});

it('are those of the machine itself, by the same rule', async () => {
  const { result } = await logs(undefined);
  expect(result).toEqual({ lines: ['one', 'two\u{1b}[2J', 'three'] });
  expect(asked).toEqual(['/journal?text=true&bare=true&tail=5']);
  status = 404;
  await expect(logs(undefined)).rejects.toMatchObject({ expected: 'public_logs true in app.json' });
  await expect(logs(undefined, { status: 'stopped', run_dir: null })).rejects.toMatchObject({
    code: 'not_deployed',
  });
});
