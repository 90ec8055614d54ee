import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { connectTunnel } from '../http-connect.ts';
import { hybridGuest, hybridHost, hybridPortPath } from '../hybrid.ts';
import { parseProxyConfig } from './proxy-config.ts';
import { addressOf, mayResolveTo, parseTarget } from './targets.ts';
import { startVsockProxy, type VsockProxy } from './vsock-proxy.ts';

let directory: string;
let path: string;
let target: Server;
let port: number;
let proxy: VsockProxy | undefined;
const accepted: Socket[] = [];
const lines: string[] = [];

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'proxy-'));
  path = join(directory, 'vm.vsock');
  lines.length = 0;
  target = createServer((stream) => {
    accepted.push(stream);
    stream.on('error', () => undefined);
    stream.on('data', (chunk) => stream.write(`echo ${chunk}`));
  });
  await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
  port = (target.address() as AddressInfo).port;
});
afterEach(async () => {
  await proxy?.close();
  proxy = undefined;
  for (const stream of accepted.splice(0)) stream.destroy();
  target.close();
  rmSync(directory, { recursive: true });
});

async function start(config: object, names: Readonly<Record<string, readonly string[]>> = {}): Promise<void> {
  proxy = await startVsockProxy({
    config: parseProxyConfig(JSON.stringify(config)),
    vsock: hybridHost(path),
    log: (message, { reason }) => lines.push(`${message}: ${reason}`),
    resolve: async (name) => {
      const found = names[name];
      if (found === undefined) throw new Error('ENOTFOUND');
      return found;
    },
  });
}
const allowing = (...allow: string[]) => ({ connect: { allow } });
const dial = () => hybridGuest(path).connect(3, 3128);
/** What the proxy answers to these bytes before it ends the stream. */
async function answerTo(bytes: string | Uint8Array): Promise<string> {
  const stream = await dial();
  stream.on('error', () => undefined);
  stream.write(bytes);
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  return text.split('\r\n')[0] ?? '';
}
const ask = (authority: string) => answerTo(`CONNECT ${authority} HTTP/1.1\r\nHost: x\r\n\r\n`);
const until = async (isTrue: () => boolean): Promise<void> => {
  while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 5));
};

describe('an allowed target', () => {
  test('is reached, byte for byte, and counted', async () => {
    await start(allowing(`127.0.0.1:${port}`));
    const stream = await dial();
    await connectTunnel(stream, '127.0.0.1', port);
    stream.write('hello');
    expect(String((await once(stream, 'data'))[0])).toBe('echo hello');
    stream.end();
    accepted[0]!.end();
    await once(stream, 'close');
    await until(() => proxy!.open === 0);
    expect(proxy!.metrics.text()).toContain('connections_total{way="connect",outcome="done"} 1');
    expect(proxy!.metrics.text()).toContain('bytes_total{direction="out"} 5');
  });

  test('a name is resolved once, and what may be reached of that is connected to', async () => {
    const asked: string[] = [];
    const resolve = async (name: string): Promise<string[]> => {
      asked.push(name);
      return ['127.0.0.1', '203.0.113.1'];
    };
    expect(await addressOf('kms.example', false, resolve)).toBe('203.0.113.1');
    expect(await addressOf('127.0.0.1', false, resolve)).toBe('127.0.0.1');
    expect(asked).toEqual(['kms.example']);
  });
});

test('what a client sends right behind its CONNECT reaches the target, from the first byte', async () => {
  await start(allowing(`127.0.0.1:${port}`));
  const stream = await dial();
  stream.write(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\nCONNECT x:1 HTTP/1.1\r\n\r\n`);
  let text = '';
  stream.on('data', (chunk) => {
    text += String(chunk);
  });
  await until(() => text.includes('echo'));
  expect(text).toBe('HTTP/1.1 200 Connection established\r\n\r\necho CONNECT x:1 HTTP/1.1\r\n\r\n');
  stream.destroy();
});

describe('nitro-proxy-refuses-other-targets', () => {
  test('whatever is not on the list is refused, and nothing is connected to', async () => {
    await start(allowing('kms.example:12001', '[2001:db8::1]:443'), { 'kms.example': ['192.0.2.1'] });
    const others = [
      `127.0.0.1:${port}`,
      `localhost:${port}`,
      '169.254.169.254:80',
      'kms.example:12002',
      'kms.example.evil:12001',
      'evilkms.example:12001',
      '[2001:db8::2]:443',
      '[::ffff:127.0.0.1]:443',
    ];
    for (const other of others) expect(await ask(other), other).toBe('HTTP/1.1 403 Forbidden');
    expect(accepted).toEqual([]);
    expect(lines.length).toBe(others.length);
  });

  test.each([
    '',
    ':443',
    'kms.example',
    'kms.example:',
    'kms.example:0',
    'kms.example:65536',
    'kms.example:012001',
    'kms.example:12001:80',
    'http://kms.example:12001',
    'user@kms.example:12001',
    'kms.example.:12001',
    'kms..example:12001',
    '-kms.example:12001',
    'kms.example%00:12001',
    '2130706433:80',
    '0x7f000001:80',
    '0177.0.0.1:80',
    '127.1:80',
    '[127.0.0.1]:80',
    '::1:80',
    '[::1%lo]:80',
    'kms_example:12001',
    'kms.exаmple:12001',
    `${'a'.repeat(300)}:1`,
  ])('%j is no target', async (authority) => {
    expect(parseTarget(authority)).toBeUndefined();
    await start(allowing('kms.example:12001'));
    expect(await ask(authority)).toBe('HTTP/1.1 400 Bad Request');
  });

  test('a name that DNS leads to this host, its link or the metadata service is refused', async () => {
    const names = {
      'a.example': ['127.0.0.1'],
      'b.example': ['169.254.169.254'],
      'c.example': ['::1', 'fe80::1', 'fd00:ec2::254'],
      'd.example': ['::ffff:127.0.0.1', '64:ff9b::7f00:1'],
      'e.example': ['0.0.0.0'],
      'f.example': ['10.0.0.1'],
    };
    await start(allowing(...Object.keys(names).map((name) => `${name}:${port}`)), names);
    for (const name of Object.keys(names))
      expect(await ask(`${name}:${port}`), name).toBe('HTTP/1.1 403 Forbidden');
    expect(await ask(`A.Example:${port}`)).toBe('HTTP/1.1 403 Forbidden');
    expect(accepted).toEqual([]);
  });

  test('private networks are reached by a name only where the configuration says so', () => {
    for (const address of ['10.0.0.1', '172.31.0.1', '192.168.1.1', '100.64.0.1', 'fd12::1']) {
      expect(mayResolveTo(address, false), address).toBe(false);
      expect(mayResolveTo(address, true), address).toBe(true);
    }
    for (const address of [
      '127.0.0.1',
      '169.254.169.254',
      'fd00:ec2::254',
      '::1',
      '::',
      '224.0.0.1',
      '2002:7f00:1::',
      '::127.0.0.1',
      'fe80::1%eth0',
    ])
      expect(mayResolveTo(address, true), address).toBe(false);
    for (const address of ['203.0.113.7', '2a00::1'])
      expect(mayResolveTo(address, false), address).toBe(true);
  });

  test('other methods, and what is not HTTP, are refused', async () => {
    await start(allowing(`127.0.0.1:${port}`));
    expect(await answerTo(`GET http://127.0.0.1:${port}/ HTTP/1.1\r\n\r\n`)).toBe(
      'HTTP/1.1 405 Method Not Allowed',
    );
    expect(await answerTo('\x16\x03\x01\n')).toBe('HTTP/1.1 400 Bad Request');
    expect(await answerTo(`CONNECT 127.0.0.1:${port} HTTP/2.0\r\n\r\n`)).toBe('HTTP/1.1 400 Bad Request');
    expect(await answerTo(`CONNECT 127.0.0.1:${port}  HTTP/1.1\r\n\r\n`)).toBe('HTTP/1.1 400 Bad Request');
    expect(accepted).toEqual([]);
  });

  test('any bytes leave the proxy standing', async () => {
    await start({ ...allowing('kms.example:12001'), limits: { header_seconds: 0.1 } });
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 64 }), async (bytes) => {
        expect(await answerTo(bytes)).toMatch(/^HTTP\/1\.1 (400|408) |^$/);
      }),
      { numRuns: 20 },
    );
    expect(await ask('other:1')).toBe('HTTP/1.1 403 Forbidden');
  });
});

describe('limits', () => {
  test('a header that does not end, and one that does not come, are cut off', async () => {
    await start({ ...allowing(`127.0.0.1:${port}`), limits: { header_seconds: 0.2, header_bytes: 256 } });
    expect(await answerTo(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\n${'X: y\r\n'.repeat(100)}`)).toMatch(
      / 431 /,
    );
    expect(await answerTo('x'.repeat(1000))).toMatch(/ 431 /);
    const stream = await dial();
    const slow = setInterval(() => stream.write('C'), 20);
    expect(String((await once(stream, 'data'))[0])).toMatch(/^HTTP\/1\.1 408 /);
    clearInterval(slow);
    stream.destroy();
  });

  test('a flood is turned away, and the places come back', async () => {
    await start({ ...allowing(`127.0.0.1:${port}`), limits: { connections_per_source: 3 } });
    const kept = await Promise.all([dial(), dial(), dial()]);
    await until(() => proxy!.open === 3);
    for (let at = 0; at < 50; at++) {
      const more = await dial();
      more.on('error', () => undefined);
      more.resume();
      await once(more, 'close');
    }
    expect(proxy!.open).toBe(3);
    expect(proxy!.metrics.text()).toContain('outcome="full"} 50');
    for (const stream of kept) stream.destroy();
    await until(() => proxy!.open === 0);
    expect(await ask('other:1')).toBe('HTTP/1.1 403 Forbidden');
  });

  test('a place is held until a refused connection is closed', async () => {
    await start({ ...allowing('kms.example:1'), limits: { connections_per_source: 2 } });
    const stream = connect({ path: hybridPortPath(path, 3128), allowHalfOpen: true });
    stream.write('CONNECT other:1 HTTP/1.1\r\n\r\n');
    expect(String((await once(stream, 'data'))[0])).toMatch(/ 403 /);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(proxy!.open).toBe(1);
    stream.destroy();
    await until(() => proxy!.open === 0);
  });

  test('strangers who fill an ingress mapping leave the enclave its way out', async () => {
    const guest = hybridGuest(path);
    const listener = await guest.listen(8443, () => undefined);
    const listen = await freePort();
    await start({
      ...allowing(`127.0.0.1:${port}`),
      mappings: [{ direction: 'ingress', listen: `127.0.0.1:${listen}`, enclave_port: 8443 }],
      limits: { connections: 2 },
    });
    const strangers = [1, 2, 3].map(() => connect(listen, '127.0.0.1').on('error', () => undefined));
    await Promise.race(strangers.map((stream) => once(stream.resume(), 'close')));
    expect(proxy!.open).toBe(2);
    expect(await ask(`127.0.0.1:${port + 1}`)).toBe('HTTP/1.1 403 Forbidden');
    for (const stream of strangers) stream.destroy();
    await listener.close();
  });

  test('a resolver that does not answer is not waited for', async () => {
    proxy = await startVsockProxy({
      config: parseProxyConfig(
        JSON.stringify({ ...allowing('kms.example:1'), limits: { connect_seconds: 0.1 } }),
      ),
      vsock: hybridHost(path),
      log: () => undefined,
      resolve: () => new Promise(() => undefined),
    });
    expect(await ask('kms.example:1')).toBe('HTTP/1.1 502 Bad Gateway');
    await until(() => proxy!.open === 0);
  });

  test('a tunnel in which nothing flows ends', async () => {
    await start({ ...allowing(`127.0.0.1:${port}`), limits: { idle_seconds: 0.1 } });
    const stream = await dial();
    await connectTunnel(stream, '127.0.0.1', port);
    stream.resume();
    await once(stream, 'close');
    await until(() => proxy!.open === 0);
    expect(proxy!.metrics.text()).toContain('outcome="idle"} 1');
  });

  test('a stranger who says nothing into an enclave is ended long before the idle time', async () => {
    const inside = await hybridGuest(path).listen(443, (stream) => void stream.resume());
    const listen = await freePort();
    await start({
      mappings: [{ direction: 'ingress', listen: `127.0.0.1:${listen}`, enclave_port: 443 }],
      limits: { first_byte_seconds: 0.2 },
    });
    const silent = connect(listen, '127.0.0.1').resume();
    const speaking = connect(listen, '127.0.0.1').resume();
    speaking.write('hello');
    await once(silent, 'close');
    await until(() => proxy!.open === 1);
    expect(speaking.destroyed).toBe(false);
    speaking.destroy();
    await inside.close();
  });

  test('a side that does not read stops the other; little waits in the proxy', async () => {
    await start(allowing(`127.0.0.1:${port}`));
    target.removeAllListeners('connection');
    target.on('connection', (stream: Socket) => {
      accepted.push(stream);
      stream.on('error', () => undefined);
      stream.pause();
    });
    const stream = await dial();
    stream.on('error', () => undefined);
    await connectTunnel(stream, '127.0.0.1', port);
    // What the kernel holds for two connections is some megabytes; a proxy that stores instead takes all of this.
    const [piece, most] = [Buffer.alloc(1 << 20), 64 << 20];
    let written = 0;
    for (let isTaken = true; isTaken && written < most; written += piece.length)
      isTaken =
        stream.write(piece) ||
        (await once(stream, 'drain', { signal: AbortSignal.timeout(1000) }).then(
          () => true,
          () => false,
        ));
    expect(written).toBeLessThan(most);
    stream.destroy();
  });
});

describe('mappings', () => {
  test('lead into the enclave and out of it', async () => {
    const guest = hybridGuest(path);
    const listener = await guest.listen(8443, (stream) => stream.end('from the enclave'));
    const listen = await freePort();
    await start({
      mappings: [
        { direction: 'ingress', listen: `127.0.0.1:${listen}`, enclave_cid: 16, enclave_port: 8443 },
        { direction: 'egress', vsock_port: 8000, target: `127.0.0.1:${port}` },
      ],
    });
    const inside = connect(listen, '127.0.0.1');
    expect(String((await once(inside, 'data'))[0])).toBe('from the enclave');
    inside.destroy();
    const out = await guest.connect(3, 8000);
    out.write('x');
    expect(String((await once(out, 'data'))[0])).toBe('echo x');
    out.destroy();
    await listener.close();
  });

  test('an enclave that is not there ends the connection', async () => {
    const listen = await freePort();
    await start({ mappings: [{ direction: 'ingress', listen: `127.0.0.1:${listen}`, enclave_port: 1 }] });
    const stream = connect(listen, '127.0.0.1');
    stream.resume();
    await once(stream, 'close');
    expect(lines[0]).toMatch(/connection failed/);
  });
});

describe('a configuration', () => {
  test('of docs/nitro.md can be used', () => {
    const page = readFileSync(new URL('../../../../docs/nitro.md', import.meta.url), 'utf8');
    const [, block = ''] = /^```json\n([\s\S]*?)^```$/m.exec(page) ?? [];
    const { connect: found, mappings } = parseProxyConfig(block);
    expect(found?.allow).toEqual([{ host: 'kms.example.com', port: 12_001 }]);
    expect(mappings.map(({ direction }) => direction)).toEqual(['ingress', 'egress']);
  });

  test.each([
    ['{', /not JSON/],
    ['{"connect":{"allow":[]}}', /connect.allow/],
    ['{"connect":{"allow":["*:443"]}}', /connect\.allow\.0: .*not HOST:PORT/],
    ['{"connect":{"allow":["kms.example"]}}', /not HOST:PORT/],
    ['{"mappings":[{"direction":"egress","vsock_port":1,"target":"name:1"}]}', /not ADDRESS:PORT/],
    [
      '{"mappings":[{"direction":"ingress","listen":"0.0.0.0:443","enclave_cid":3,"enclave_port":1}]}',
      /enclave_cid/,
    ],
    ['{"alow":[]}', /alow/],
    ['{}', /neither connect nor mappings/],
    ['{"vsock":"tcp:10.0.0.1","connect":{"allow":["a:1"]}}', /vsock: .*not a vsock transport/],
    [
      '{"connect":{"allow":["a:1"]},"mappings":[{"direction":"egress","vsock_port":3128,"target":"10.0.0.1:1"}]}',
      /vsock port 3128 is named twice/,
    ],
    [
      '{"mappings":[{"direction":"ingress","listen":"[::1]:1","enclave_port":1},{"direction":"ingress","listen":"[::1]:1","enclave_port":2}]}',
      /::1 port 1 is named twice/,
    ],
  ])('%s is refused by name', (text, message) => {
    expect(() => parseProxyConfig(text)).toThrow(message);
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port: found } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return found;
}

describe('what enclaves say of themselves', () => {
  const say = async (text: string): Promise<void> => {
    const stream = await hybridGuest(path).connect(3, 9001);
    stream.on('error', () => undefined);
    stream.resume();
    stream.end(text);
    await once(stream, 'close');
  };

  test('is logged, a text for each connection', async () => {
    await start({ reports: 9001 });
    await say('{"stage":"keys","exit_code":1}\n');
    expect(lines).toEqual(['enclave reports: {"stage":"keys","exit_code":1}']);
  });

  test('is bounded, and nothing is not logged', async () => {
    await start({ reports: 9001 });
    await say('');
    await say('x'.repeat(16 * 1024));
    expect(lines).toEqual([]);
  });

  test('has a port of its own', () => {
    expect(() => parseProxyConfig(JSON.stringify({ ...allowing('kms.example:443'), reports: 3128 }))).toThrow(
      'vsock port 3128 is named twice',
    );
  });
});
