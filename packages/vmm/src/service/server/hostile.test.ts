/** The service's listener against whoever reaches it: without credential, with a wrong one, with floods and damaged requests. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request as plainRequest, type RequestOptions } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseConfig } from '../config/load-config.ts';
import type { VmmConfig } from '../config/vmm-config.ts';
import { Images } from '../images.ts';
import { Machines } from '../machines/machines.ts';
import { RegistryImages } from '../registry/registry-images.ts';
import { vmmHandler } from './handler.ts';
import { type Listener, listen } from './listener.ts';
import { createMetrics } from './metrics.ts';
import { operatorsOf } from './operators.ts';

const TOKEN = 'a-token-that-nobody-guesses';
const AUTH = `[auth]\nenabled = true\ntokens = ["another-token-of-the-host", "${TOKEN}"]\n`;
/** crypt_blowfish's own vector for "U*U", at cost 5. */
const ALICE = 'alice:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n';

let root: string;
let log: string[];
let listener: Listener | undefined;
const sockets: Socket[] = [];
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vmm-door-'));
  log = [];
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await listener?.close();
  listener = undefined;
  rmSync(root, { recursive: true, force: true });
});

async function start(toml: string, change: Partial<VmmConfig> = {}): Promise<Listener> {
  const paths = { run_path: join(root, 'vm'), image_path: join(root, 'image') };
  const config = { ...parseConfig(toml, 'vmm.toml'), ...paths, ...change };
  const images = new Images(config.image_path);
  const machines = new Machines(config, images, () => undefined);
  const metrics = createMetrics('0', async () => ({ running: 0 }));
  const logger = pino({ level: 'debug' }, { write: (line: string) => void log.push(line) });
  const ignored = { pulled: () => undefined, failed: () => undefined };
  const registry = new RegistryImages({ registry: '', imagePath: config.image_path, ...ignored });
  const service = { config, machines, images, registry };
  const handler = vmmHandler({ service, operators: operatorsOf(config), metrics, log: logger });
  listener = await listen(config, handler, { metrics, log: logger });
  return listener;
}

const onSocket = (): Partial<VmmConfig> => ({ address: `unix:${join(root, 'vmm.sock')}` });
const onLoopback = (): Partial<VmmConfig> => ({ address: '127.0.0.1', port: 0 });

type Asked = { status: number; text: string; headers: Record<string, string | string[] | undefined> };

function ask(path: string, options: RequestOptions & { body?: string; ca?: string } = {}): Promise<Asked> {
  const { body, ca, ...rest } = options;
  const [host, port] = (listener?.address ?? '').split(':');
  const where =
    host === 'unix' ? { socketPath: join(root, 'vmm.sock') } : { host: host!, port: Number(port) };
  return new Promise((resolve, reject) => {
    const all = {
      ...where,
      path,
      method: 'POST',
      agent: false,
      ...rest,
      ...(ca === undefined ? {} : { ca }),
    };
    const outgoing = (ca === undefined ? plainRequest : tlsRequest)(all, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.once('error', reject);
      response.once('end', () =>
        resolve({ status: response.statusCode ?? 0, text, headers: response.headers }),
      );
    });
    outgoing.once('error', reject);
    outgoing.end(body);
  });
}

const basic = (user: string, password: string): Record<string, string> => ({
  Authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
});
const EVERYTHING = [
  ...[
    '/',
    '/v1',
    '/v0',
    '/logs?id=x&follow=false&ansi=false',
    '/prpc/Status?json',
    '/prpc/CreateVm',
    '/metrics',
  ],
  ...['/guest/Info', '/api/Notify', '/api-docs', '/health', '/prpc/openapi.json', '/none', '/../etc/passwd'],
];

describe('a listener with credentials', () => {
  it('answers nothing at all without one, whatever the path and method', async () => {
    await start(AUTH, onSocket());
    for (const path of EVERYTHING)
      for (const method of ['GET', 'POST', 'PUT', 'HEAD']) {
        const { status, headers } = await ask(path, { method });
        expect([method, path, status]).toEqual([method, path, 401]);
        expect(headers['www-authenticate']).toContain('Basic');
      }
  });

  it.each([
    ['a token', { Authorization: `Bearer ${TOKEN}` }, 'token 2'],
    ['the header of its own', { 'X-Admin-Token': TOKEN }, 'token 2'],
    ['a token as a password', basic('anybody', TOKEN), 'token 2'],
    ['a user of the file', basic('alice', 'U*U'), 'user alice'],
  ])('takes %s, and the log says who it was', async (_name, headers, who) => {
    writeFileSync(join(root, 'users'), ALICE);
    await start(AUTH.replace('enabled', `htpasswd_file = "${join(root, 'users')}"\nenabled`), onSocket());
    const body = JSON.stringify({ id: 'c0ffee' });
    const { status, text } = await ask('/prpc/StartVm?json', { headers, body });
    expect([status, text]).toEqual([400, expect.stringContaining('There is no VM')]);
    expect(log.map((line) => JSON.parse(line))).toContainEqual(
      expect.objectContaining({ msg: 'rpc refused', who, vm: 'c0ffee', method: 'StartVm' }),
    );
    expect(log.join('')).not.toContain(TOKEN);
  });

  it('looks at ten wrong ones a minute, and at no right one after them', async () => {
    await start(AUTH, onSocket());
    const guess = (token: string) =>
      ask('/prpc/Version?json', { headers: { Authorization: `Bearer ${token}` } });
    for (let tries = 0; tries < 10; tries += 1) expect((await guess(`wrong-${tries}`)).status).toBe(401);
    expect((await guess(TOKEN)).status).toBe(429);
    expect(log.filter((line) => line.includes('login failed')).length).toBeGreaterThan(0);
  });

  it('refuses what a browser sends for the page of another site', async () => {
    await start(AUTH, onLoopback());
    const headers = { ...basic('x', TOKEN), Origin: 'https://evil.example', Host: '127.0.0.1' };
    expect((await ask('/prpc/Status?json', { headers })).status).toBe(403);
    expect((await ask('/prpc/Status?json', { headers: { ...headers, Origin: 'null' } })).status).toBe(403);
    const same = { ...basic('x', TOKEN), 'Sec-Fetch-Site': 'same-origin' };
    expect((await ask('/prpc/Status?json', { headers: same })).status).toBe(200);
  });

  it('changes only so much in a minute for one operator', async () => {
    await start(`${AUTH}[limits]\nchanges_per_minute = 3\n`, onSocket());
    const headers = { Authorization: `Bearer ${TOKEN}` };
    const statuses: number[] = [];
    for (let tries = 0; tries < 5; tries += 1)
      statuses.push((await ask('/prpc/StartVm?json', { headers, body: '{"id":"x"}' })).status);
    expect(statuses).toEqual([400, 400, 400, 429, 429]);
    expect((await ask('/prpc/Version?json', { headers: { 'X-Admin-Token': TOKEN } })).status).toBe(200);
  });

  it('speaks TLS alone where it has keys', async () => {
    const [key, certs] = [join(root, 'key.pem'), join(root, 'cert.pem')];
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '1'];
    const pair = [
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      key,
      '-out',
      certs,
    ];
    execFileSync('openssl', ['req', '-x509', ...pair, ...subject], { stdio: 'ignore' });
    await start(AUTH, { ...onLoopback(), tls: { key, certs } });
    const headers = { Authorization: `Bearer ${TOKEN}` };
    const ca = readFileSync(certs, 'utf8');
    expect((await ask('/prpc/Version?json', { headers, ca })).status).toBe(200);
    await expect(ask('/prpc/Version?json', { headers })).rejects.toThrow();
  });
});

describe('a listener that is reached', () => {
  it('is a socket of this user and its group', async () => {
    await start('', onSocket());
    expect(statSync(join(root, 'vmm.sock')).mode & 0o777).toBe(0o660);
  });

  it('takes the place of a socket that was left behind, and of nothing else', async () => {
    const path = join(root, 'vmm.sock');
    const other = createServer().listen(path);
    await new Promise((resolve) => other.once('listening', resolve));
    await expect(start('', onSocket())).rejects.toMatchObject({ code: 'listen_failed' });
    await new Promise((resolve) => other.close(resolve));
    writeFileSync(path, 'precious');
    await expect(start('', onSocket())).rejects.toMatchObject({ code: 'listen_failed' });
    expect(readFileSync(path, 'utf8')).toBe('precious');
  });

  it('gets no large, damaged or foreign message in', async () => {
    await start('', onSocket());
    const attempts: readonly (readonly [string, string])[] = [
      ['/prpc/StartVm?json', `{"id":"${'x'.repeat(100_000)}"}`],
      ['/prpc/CreateVm?json', `{"name":"${'x'.repeat(5_000_000)}"}`],
      ['/prpc/CreateVm?json', '['.repeat(50_000)],
      ['/prpc/CreateVm?json', '{"name":"a","name":"b"}'],
      ['/prpc/CreateVm?json', '{"vcpu":-1}'],
      ['/prpc/CreateVm?json', '{"memory":4294967296}'],
      ['/prpc/CreateVm', 'not protobuf'],
      ['/prpc/StartVm?json', '{"id":"../../etc"}'],
      ['/prpc/StartVm?json', '{"id":".trash"}'],
      ['/prpc/RemoveVm?json', '{"id":"."}'],
      ['/prpc/RemoveVm?json', '{"id":""}'],
      ['/prpc/__proto__?json', '{}'],
      ['/prpc/constructor', ''],
      ['/prpc/Vmm.Vmm.Teepod.Nothing', ''],
      [`/prpc/${'x'.repeat(20_000)}`, ''],
      ['/logs?id=../..&follow=false&ansi=false', ''],
    ];
    for (const [path, body] of attempts) {
      const { status } = await ask(path, { body }).catch(() => ({ status: 0 }));
      expect([path.slice(0, 40), status]).toEqual([
        path.slice(0, 40),
        expect.toBeOneOf([0, 400, 404, 413, 431]),
      ]);
    }
    for (const query of ['', 'id=x', 'id=x&follow=maybe&ansi=false', 'id=x&follow=false&ansi=false&ch=../x'])
      expect((await ask(`/logs?${query}`, { method: 'GET' })).status).toBe(400);
    expect((await ask('/prpc/Version?json')).status).toBe(200);
  });

  it('by silent connections keeps nobody out for long', async () => {
    await start('[limits]\nmax_connections = 16\n', onSocket());
    for (let count = 0; count < 64; count += 1) {
      const socket = connect({ path: join(root, 'vmm.sock') });
      socket.on('error', () => undefined);
      sockets.push(socket);
    }
    await expect
      .poll(
        () =>
          ask('/prpc/Version?json').then(
            ({ status }) => status,
            () => 0,
          ),
        { timeout: 30_000 },
      )
      .toBe(200);
  });

  it('shows a page that runs its own script alone', async () => {
    await start('node_name = "host 1"', onSocket());
    const { text, headers } = await ask('/', { method: 'GET' });
    expect(text).toContain('<title>host 1 | dstack-vmm</title>');
    expect(headers['content-security-policy']).toMatch(
      /^default-src 'none'; script-src 'sha256-[^ ]+'; style-src 'sha256-[^ ]+'; connect-src 'self'/,
    );
    expect(text).not.toMatch(/ on[a-z]+="|innerHTML|https?:\/\/(?!\{)/);
  });
});
