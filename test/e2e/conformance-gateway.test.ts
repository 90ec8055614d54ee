/** `dstack-conformance gateway`: ours conforms, and each case finds one that does what it checks otherwise. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createPlainServer } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer as createTlsServer } from 'node:tls';
import { type CaseResult, casesOf, readCommand } from '@dstack-cloud/conformance';
import { parseConfig, type RunningGateway, runGateway } from '@dstack-cloud/gateway';
import { createLogger } from '@dstack-cloud/guest-agent';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { certificatePem, issueCertificate } from '@dstack-cloud/ra-tls';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { answersOf, reply, startWrongServer, type Wrong } from '../harness/wrong-server.ts';

const TAG = `gc${process.pid}`;
const PORT = 20_000 + (process.pid % 12_000);
const log = createLogger('test');
log.level = 'silent';

function certificateFor(name: string): { cert: string; key: string } {
  const key = generateP256Key();
  const notAfter = Math.floor(Date.now() / 1000) + 3600;
  const subject = { commonName: name };
  const der = issueCertificate({
    subject,
    spki: key.spki,
    issuer: key,
    notAfter,
    altNames: [name],
    serverAuth: true,
  });
  return { cert: certificatePem(der), key: p256KeyPem(key) };
}

describeWithPrograms('conformance-gateway', ['wg', 'wireguard-go', 'ip'], () => {
  const folder = mkdtempSync(join(tmpdir(), 'conformance-gateway-'));
  const stop = new AbortController();
  const tls = certificateFor('localhost');
  let served: Promise<void>;
  let gateway: RunningGateway;

  beforeAll(async () => {
    const at = (file: string): string => join(folder, file);
    mkdirSync(at('state'), { mode: 0o700 });
    for (const [name, pair] of Object.entries({ rpc: tls, apps: certificateFor('*.apps.test') })) {
      writeFileSync(at(`${name}.pem`), pair.cert);
      writeFileSync(at(`${name}.key`), pair.key, { mode: 0o600 });
    }
    const config = parseConfig(
      `port = ${PORT + 1}
      tls = { key = "${at('rpc.key')}", certs = "${at('rpc.pem')}", mutual = { ca_certs = "${at('rpc.pem')}" } }
      [core]
      state_path = "${at('state')}"
      [core.proxy]
      base_domain = "apps.test"
      listen_addr = "127.0.0.1"
      listen_port = ${PORT + 2}
      cert_chain = "${at('apps.pem')}"
      cert_key = "${at('apps.key')}"
      [core.wg]
      interface = "${TAG}x"
      driver = "userspace"
      listen_port = ${PORT}
      endpoint = "127.0.0.1:${PORT}"
      ip = "10.236.0.1/24"
      reserved_net = ["10.236.0.1/32"]
      client_ip_range = "10.236.0.0/25"`,
      'gateway.toml',
    );
    gateway = await new Promise((resolve, reject) => {
      served = runGateway(config, stop.signal, { log, ready: resolve });
      served.catch(reject);
    });
  }, 60_000);
  afterAll(async () => {
    stop.abort();
    await served;
    execFileSync('sh', ['-c', `ip link delete ${TAG}x 2>/dev/null; true`]);
    rmSync(folder, { recursive: true, force: true });
  });

  async function conformance(port: number, proxy: number, ...argv: string[]): Promise<readonly CaseResult[]> {
    const urls = [`https://127.0.0.1:${port}`, '--proxy', `http://127.0.0.1:${proxy}`];
    const command = readCommand(['gateway', ...urls, '--extensions', ...argv]);
    if (command.kind !== 'run') throw new Error(command.kind);
    return await command.run({});
  }
  const failed = (results: readonly CaseResult[]): string[] =>
    results.filter(({ outcome }) => outcome === 'failed').map(({ id }) => id);

  it('our gateway conforms, extensions included', async () => {
    const results = await conformance(gateway.rpcPort, gateway.proxyPort);
    expect(results.filter(({ outcome }) => outcome !== 'passed')).toMatchObject([
      { id: 'gateway.acme-info', outcome: 'skipped' },
    ]);
    expect(results.length).toBe(casesOf('gateway').length);
  }, 60_000);

  const WRONG: readonly (readonly [string, Wrong, string])[] = [
    ['is ill', { ask: ({ path }) => (path === '/health' ? reply(503, {}) : undefined) }, 'gateway.health'],
    [
      'has no port',
      answersOf(/Info$/, (a) => {
        a['external_port'] = 0;
      }),
      'gateway.info',
    ],
    [
      'has no version',
      answersOf(/Info$/, (a) => {
        delete a['version'];
      }),
      'gateway.version',
    ],
    [
      'writes keys as base64',
      {
        ask: ({ path }) =>
          path.includes('AcmeInfo')
            ? reply(200, { account_uri: '', active_cert: '', base_domain: '', hist_keys: ['AA=='] })
            : undefined,
      },
      'gateway.acme-info',
    ],
    [
      'registers anybody',
      { ask: ({ path }) => (path.includes('RegisterCvm') ? reply(200, { wg: {} }) : undefined) },
      'gateway.register.stranger',
    ],
    [
      'ends for anybody',
      { ask: ({ path }) => (path.includes('Exit') ? reply(200, {}) : undefined) },
      'gateway.wire',
    ],
  ];

  it.each(WRONG)('a gateway that %s is found', async (_, wrong, id) => {
    const good = { host: '127.0.0.1', port: gateway.rpcPort, isTls: true };
    const server = await startWrongServer({ name: 'gateway', good, place: { tls }, wrong });
    try {
      expect(failed(await conformance(server.port, gateway.proxyPort, '--only', id))).toEqual([id]);
    } finally {
      await server.close();
    }
  });

  it('a proxy that takes every connection is found by every case of the proxy', async () => {
    const found = new Set<string>();
    const plain = createPlainServer((_, response) => response.end('{}'));
    const secure = createTlsServer({ ...tls }, (socket) => {
      socket.on('error', () => undefined);
      socket.once('data', () => socket.write('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n'));
    });
    // What is no TLS stays open and unanswered.
    const silent = createServer((socket) => socket.on('error', () => undefined));
    for (const [server, only] of [
      [plain, 'gateway.proxy.own-site'],
      [plain, 'gateway.proxy.case'],
      [secure, 'gateway.proxy.no-name'],
      [secure, 'gateway.proxy.bad-names'],
      [secure, 'gateway.proxy.unknown'],
      [silent, 'gateway.proxy.plain-http'],
      [silent, 'gateway.proxy.garbage'],
    ] as const) {
      const open = new Set<Socket>();
      server.on('connection', (socket: Socket) => open.add(socket));
      const port = await listen(server);
      for (const id of failed(await conformance(gateway.rpcPort, port, '--only', only))) found.add(id);
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    }
    const ofProxy = casesOf('gateway').filter(({ id }) => id.startsWith('gateway.proxy.'));
    expect(ofProxy.map(({ id }) => id).filter((id) => !found.has(id))).toEqual([]);
    const covered = new Set([...found, ...WRONG.map(([, , id]) => id)]);
    expect(
      casesOf('gateway')
        .map(({ id }) => id)
        .filter((id) => !covered.has(id)),
    ).toEqual([]);
  }, 60_000);

  async function listen(server: Server): Promise<number> {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return (server.address() as AddressInfo).port;
  }
});
