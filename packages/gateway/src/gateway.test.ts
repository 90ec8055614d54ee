import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { fromHex } from '@dstack-cloud/encoding';
import {
  createPrpcClient,
  Gateway,
  gateway as gatewayMessages,
  httpTransport,
  type PrpcClient,
} from '@dstack-cloud/prpc';
import type { AppInfo } from '@dstack-cloud/ra-tls';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parseConfig } from './config/load-config.ts';
import { type RunningGateway, runGateway } from './gateway.ts';
import { authority } from './test/authority.ts';
import { APP, BASE, certificateFor, instance } from './test/lab.ts';

const TAG = `dg${process.pid}`;
const WG_PORT = 20_000 + (process.pid % 12_000);
const COMPOSE = '{"port_policy":{"ports":[{"port":8080}],"restrict_mode":true}}';
const sh = (line: string): string => execFileSync('sh', ['-c', line], { encoding: 'utf8' }).trim();

describeWithPrograms('a gateway with a guest in a network of its own', ['wg', 'wireguard-go', 'ip'], () => {
  const folder = mkdtempSync(join(tmpdir(), 'gateway-'));
  const kms = authority(COMPOSE);
  const children: ChildProcess[] = [];
  let stop = new AbortController();
  let ended: Promise<void>;
  let gateway: RunningGateway;

  beforeAll(async () => {
    for (const [name, { certChain, key }] of Object.entries({
      proxy: certificateFor(`*.${BASE}`),
      rpc: certificateFor('gateway.test'),
    })) {
      writeFileSync(join(folder, `${name}.pem`), certChain);
      writeFileSync(join(folder, `${name}.key`), key, { mode: 0o600 });
    }
    writeFileSync(join(folder, 'kms.pem'), kms.pem);
    await start();
    sh(`ip netns add ${TAG}
      ip link add ${TAG}h type veth peer name ${TAG}g netns ${TAG}
      ip address add 10.232.1.1/30 dev ${TAG}h && ip link set ${TAG}h up
      ip -n ${TAG} address add 10.232.1.2/30 dev ${TAG}g && ip -n ${TAG} link set ${TAG}g up && ip -n ${TAG} link set lo up`);
  }, 60_000);

  afterAll(async () => {
    stop.abort();
    await ended;
    for (const child of children) child.kill('SIGKILL');
    await Promise.all(children.map(exited));
    sh(`ip link delete ${TAG}h; ip netns delete ${TAG}; true`);
    rmSync(folder, { recursive: true, force: true });
  });

  async function start(): Promise<void> {
    stop = new AbortController();
    const config = parseConfig(configText(), 'gateway.toml');
    const at = (file: string): string => join(folder, file);
    mkdirSync(at('state'), { recursive: true, mode: 0o700 });
    const { tls, core } = config;
    gateway = await new Promise((resolve, reject) => {
      ended = runGateway(
        {
          ...config,
          tls: { key: at(tls.key), certs: at(tls.certs), mutual: { ca_certs: at(tls.mutual.ca_certs) } },
          core: {
            ...core,
            state_path: at('state'),
            proxy: { ...core.proxy, cert_chain: at('proxy.pem'), cert_key: at('proxy.key') },
          },
        },
        stop.signal,
        { log: pino({ level: 'silent' }), ready: resolve },
      );
      ended.catch(reject);
    });
  }

  const guest = (info: Partial<AppInfo> = {}): PrpcClient<typeof Gateway> =>
    createPrpcClient(
      Gateway,
      httpTransport({ baseUrl: `https://127.0.0.1:${gateway.rpcPort}/prpc`, tls: kms.client(info) }),
    );

  it('says to anybody where applications are reached', async () => {
    const client = createPrpcClient(
      Gateway,
      httpTransport({
        baseUrl: `https://127.0.0.1:${gateway.rpcPort}/prpc`,
        tls: { rejectUnauthorized: false },
      }),
    );
    expect(await client.info({})).toMatchObject({ baseDomain: BASE, externalPort: 443 });
    await expect(client.registerCvm({ clientPublicKey: keys().public })).rejects.toThrow(
      /Client authentication is required/,
    );
    expect((await get(`gateway.${BASE}`, '/.dstack/index')).body).toContain('dstack gateway');
  });

  it('first-request: a guest registers, makes its tunnel, and users reach its page; a restart forgets nobody', async () => {
    const own = keys();
    const registered = await guest().registerCvm({ clientPublicKey: own.public });
    expect(registered.wg?.clientIp).toBe('10.233.0.2');
    const [server] = registered.wg!.servers;
    await tunnel(own, registered.wg!.clientIp, server!);
    const name = `${APP}-8080.${BASE}`;
    await expect
      .poll(async () => (await get(name, '/').catch(() => undefined))?.body, { timeout: 20_000 })
      .toBe('hello from the guest');
    expect((await get(`${instance(1).instanceId}-8080.${BASE}`, '/')).body).toBe('hello from the guest');
    // The guest reported no policy: its agent was asked, and what its app-compose leaves out stays closed.
    await expect(get(`${APP}-8090.${BASE}`, '/')).rejects.toThrow();
    const operator = createPrpcClient(
      gatewayMessages.Admin,
      httpTransport({ socketPath: gateway.admin!, baseUrl: 'http://localhost/prpc' }),
    );
    expect(await operator.getMeta({})).toMatchObject({ registered: 1, online: 1 });
    // A user who stays keeps no gateway from its end.
    const kept = connect({
      host: '127.0.0.1',
      port: gateway.proxyPort,
      servername: name,
      rejectUnauthorized: false,
    });
    kept.on('error', () => kept.destroy());
    await once(kept, 'secureConnect');
    stop.abort();
    await ended;
    kept.destroy();
    await start();
    expect(sh(`wg show ${TAG}x allowed-ips`)).toBe(`${own.public}\t10.233.0.2/32`);
    expect((await guest().registerCvm({ clientPublicKey: own.public })).wg?.clientIp).toBe('10.233.0.2');
  }, 90_000);

  it('register-as-another-app: only what the KMS says about a guest counts', async () => {
    const own = keys();
    const strangers = authority(COMPOSE);
    await expect(call(strangers.client({}))).rejects.toThrow();
    await expect(call(kms.client({ appId: fromHex('bb'.repeat(20)) }))).rejects.toThrow(
      /registered by another application/,
    );
    await expect(call(kms.client(undefined))).rejects.toThrow(/neither app-info nor attestation provided/);
    await expect(call(kms.client({ instanceId: new Uint8Array() }))).rejects.toThrow(
      /instance id is not 20 bytes/,
    );

    function call(tls: object): Promise<unknown> {
      const client = createPrpcClient(
        Gateway,
        httpTransport({ baseUrl: `https://127.0.0.1:${gateway.rpcPort}/prpc`, tls }),
      );
      return client.registerCvm({ clientPublicKey: own.public });
    }
  });

  it('is the only one with its state', async () => {
    const before = stop;
    await expect(start()).rejects.toMatchObject({ code: 'locked' });
    stop = before;
    ended = Promise.resolve();
  });

  /** The guest's end: an interface in its namespace, and a page behind it. */
  async function tunnel(
    own: Keys,
    ip: string,
    server: { pk: string; ip: string; endpoint: string },
  ): Promise<void> {
    const inside = (command: string): ChildProcess => {
      const child = spawn('ip', ['netns', 'exec', TAG, 'sh', '-c', `exec ${command}`], {
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      children.push(child);
      return child;
    };
    inside(`env WG_PROCESS_FOREGROUND=1 wireguard-go -f ${TAG}w`);
    await expect
      .poll(() => sh(`wg show ${TAG}w public-key 2>&1 || true`), { timeout: 10_000 })
      .not.toContain('Unable');
    writeFileSync(join(folder, 'guest.key'), own.secret, { mode: 0o600 });
    sh(`ip netns exec ${TAG} wg set ${TAG}w private-key ${join(folder, 'guest.key')} peer ${server.pk} allowed-ips ${server.ip.split('/')[0]}/32 endpoint ${server.endpoint} persistent-keepalive 1
      ip -n ${TAG} address add ${ip}/32 dev ${TAG}w && ip -n ${TAG} link set ${TAG}w up && ip -n ${TAG} route add ${server.ip.split('/')[0]}/32 dev ${TAG}w`);
    const info = JSON.stringify({ tcb_info: JSON.stringify({ app_compose: COMPOSE }) });
    writeFileSync(
      join(folder, 'page.cjs'),
      `const { createServer } = require('node:http');
      const serve = (port, body) => new Promise((up) => createServer((_q, r) => r.end(body)).listen(port, '${ip}', up));
      Promise.all([serve(8080, 'hello from the guest'), serve(8090, ${JSON.stringify(info)})]).then(() => console.log('up'));`,
    );
    const page = `${process.execPath} ${join(folder, 'page.cjs')}`;
    const [said] = (await once(inside(page).stdout!, 'data')) as [Buffer];
    expect(said.toString()).toContain('up');
  }

  async function get(servername: string, path: string): Promise<{ status: number; body: string }> {
    const request = httpsRequest({
      host: '127.0.0.1',
      port: gateway.proxyPort,
      servername,
      path,
      rejectUnauthorized: false,
      agent: false,
    });
    request.end();
    const [response] = (await once(request, 'response')) as [import('node:http').IncomingMessage];
    let body = '';
    for await (const chunk of response) body += chunk;
    return { status: response.statusCode ?? 0, body };
  }
});

async function exited(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

type Keys = { readonly secret: string; readonly public: string };

function keys(): Keys {
  const secret = sh('wg genkey');
  return { secret, public: execFileSync('wg', ['pubkey'], { input: secret, encoding: 'utf8' }).trim() };
}

function configText(): string {
  return `
port = ${WG_PORT + 3}
[tls]
key = "rpc.key"
certs = "rpc.pem"
mutual = { ca_certs = "kms.pem" }
[core.admin]
enabled = true
[core.proxy]
base_domain = "${BASE}"
listen_addr = "127.0.0.1"
listen_port = ${WG_PORT + 4}
cert_chain = "proxy.pem"
cert_key = "proxy.key"
[core.wg]
interface = "${TAG}x"
driver = "userspace"
listen_port = ${WG_PORT}
endpoint = "10.232.1.1:${WG_PORT}"
ip = "10.233.0.1/24"
reserved_net = ["10.233.0.1/32"]
client_ip_range = "10.233.0.0/25"
`;
}
