/** A guest registers at our gateway, its tunnel comes up, and a user reaches its application: the parts as they run in production, the guest's network in a namespace. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAppCompose, serializeSysConfig } from '@dstack-cloud/app';
import { fromHex } from '@dstack-cloud/encoding';
import { parseConfig, type RunningGateway, runGateway } from '@dstack-cloud/gateway';
import {
  createLogger,
  parseGuestConfig,
  type ServedAgent,
  startGatewayClient,
} from '@dstack-cloud/guest-agent';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { appLeaf, certificatePem, issueCertificate, issuerOf, rootCa } from '@dstack-cloud/ra-tls';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, it } from 'vitest';

const NOW = Math.floor(Date.now() / 1000);
const TAG = `gf${process.pid}`;
const PORT = 20_000 + (process.pid % 12_000);
const [APP, INSTANCE, GATEWAY] = ['aa', 'bb', 'cc'].map((byte) => byte.repeat(20)) as [
  string,
  string,
  string,
];
const COMPOSE = JSON.stringify({
  manifest_version: 2,
  name: 'page',
  runner: 'docker-compose',
  docker_compose_file: 'services: {}',
  key_provider: 'kms',
  gateway_enabled: true,
  port_policy: { ports: [{ port: 8080 }], restrict_mode: true },
});
const sh = (line: string): string => execFileSync('sh', ['-c', line], { encoding: 'utf8' }).trim();
const log = createLogger('test');
log.level = 'silent';

describeWithPrograms('gateway-first-request', ['wg', 'wireguard-go', 'ip', 'iptables'], () => {
  const folder = mkdtempSync(join(tmpdir(), 'gateway-first-'));
  const kms = keyService();
  const stop = new AbortController();
  let served: Promise<void>;
  let gateway: RunningGateway;
  let page: ChildProcess | undefined;
  const leave: (() => Promise<void>)[] = [];

  beforeAll(async () => {
    sh(`ip netns add ${TAG}
      ip link add ${TAG}h type veth peer name ${TAG}g netns ${TAG}
      ip address add 10.234.1.1/30 dev ${TAG}h && ip link set ${TAG}h up
      ip -n ${TAG} address add 10.234.1.2/30 dev ${TAG}g && ip -n ${TAG} link set ${TAG}g up && ip -n ${TAG} link set lo up`);
    const at = (file: string): string => join(folder, file);
    mkdirSync(at('state'), { mode: 0o700 });
    writeFileSync(at('kms.pem'), kms.root);
    for (const [name, pair] of Object.entries({
      rpc: kms.server('localhost', GATEWAY),
      apps: kms.server('*.apps.test', GATEWAY),
    })) {
      writeFileSync(at(`${name}.pem`), pair.cert);
      writeFileSync(at(`${name}.key`), pair.key, { mode: 0o600 });
    }
    const config = parseConfig(
      `port = ${PORT + 1}
      tls = { key = "${at('rpc.key')}", certs = "${at('rpc.pem')}", mutual = { ca_certs = "${at('kms.pem')}" } }
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
      endpoint = "10.234.1.1:${PORT}"
      ip = "10.235.0.1/24"
      reserved_net = ["10.235.0.1/32"]
      client_ip_range = "10.235.0.0/25"`,
      'gateway.toml',
    );
    gateway = await new Promise((resolve, reject) => {
      served = runGateway(config, stop.signal, { log, ready: resolve });
      served.catch(reject);
    });
  }, 60_000);

  afterAll(async () => {
    for (const end of leave) await end();
    stop.abort();
    await served;
    if (page !== undefined && page.exitCode === null) {
      page.kill('SIGKILL');
      await once(page, 'exit');
    }
    sh(`ip link delete ${TAG}h; ip netns delete ${TAG}; true`);
    rmSync(folder, { recursive: true, force: true });
  });

  it('a user reaches the application at the ports that its app-compose opens, after a gateway that is down was asked', async () => {
    const told: string[] = [];
    await register([`https://localhost:${PORT + 3}`, `https://localhost:${gateway.rpcPort}`], GATEWAY, told);
    await expect
      .poll(() => sh(`ip -n ${TAG} -o address show dev ${TAG}w 2>&1 || true`), { timeout: 20_000 })
      .toContain('10.235.0.2/32');
    page = spawn(
      'ip',
      [
        'netns',
        'exec',
        TAG,
        process.execPath,
        '-e',
        `
        const { createServer } = require('node:http');
        const serve = (port) => createServer((_q, r) => r.end('port ' + port)).listen(port, '10.235.0.2', () => console.log('up'));
        serve(8080); serve(9090);`,
      ],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    );
    await once(page.stdout!, 'data');
    await expect
      .poll(async () => await get(`${APP}-8080.apps.test`).catch((error: Error) => error.message), {
        timeout: 30_000,
      })
      .toBe('port 8080');
    await expect(get(`${INSTANCE}-9090.apps.test`)).rejects.toThrow();
    expect(told).toEqual([]);
    // Strangers' packets never reach the interface.
    expect(sh(`ip netns exec ${TAG} iptables -S DSTACK_WG`).split('\n')).toEqual([
      '-N DSTACK_WG',
      '-A DSTACK_WG -s 10.234.1.1/32 -j ACCEPT',
      '-A DSTACK_WG -j DROP',
    ]);
  }, 90_000);

  it('another application is no gateway, and the machine goes on without a route', async () => {
    const told: string[] = [];
    await register([`https://localhost:${gateway.rpcPort}`], 'dd'.repeat(20), told);
    await expect.poll(() => told, { timeout: 20_000 }).toHaveLength(1);
    expect(told[0]).toMatch(
      /^boot.error no route by a gateway yet: .*not the gateway that the key service names/,
    );
    await register([`https://localhost:${gateway.rpcPort}`], '', told);
    expect(told[1]).toMatch(/^boot.error no route by a gateway: Missing allowed dstack-gateway app id/);
    await register([], GATEWAY, told);
    expect(told[2]).toMatch(/Missing gateway urls/);
  });

  /** The guest program's part that registers, with the network of the namespace. */
  async function register(gatewayUrls: string[], gatewayAppId: string, told: string[]): Promise<void> {
    const root = mkdtempSync(join(folder, 'guest-'));
    const shared = join(root, 'dstack/.host-shared');
    mkdirSync(shared, { recursive: true });
    const sys = {
      kmsUrls: [],
      gatewayUrls,
      pccsUrl: undefined,
      dockerRegistry: undefined,
      hostApiUrl: undefined,
      vmConfig: '{}',
    };
    writeFileSync(join(shared, '.sys-config.json'), serializeSysConfig(sys));
    const agent = {
      config: parseGuestConfig(JSON.stringify({ root }), folder),
      compose: parseAppCompose(COMPOSE),
      keys: { caCert: kms.root, gatewayAppId },
      signer: kms.signer,
      log,
      now: () => NOW,
    } as unknown as ServedAgent['agent'];
    const end = await startGatewayClient(
      agent,
      async (event, payload) => void told.push(`${event} ${payload}`),
      { interfaceName: `${TAG}w`, driver: 'userspace', namespace: TAG, localNetworks: [] },
    );
    if (end !== undefined) leave.push(end);
  }

  async function get(servername: string): Promise<string> {
    const { proxyPort: port } = gateway;
    const request = httpsRequest({ host: '127.0.0.1', port, servername, ca: kms.root, agent: false });
    request.end();
    const [response] = (await once(request, 'response')) as [import('node:http').IncomingMessage];
    let body = '';
    for await (const chunk of response) body += chunk;
    return body;
  }
});

/** What a key service signs: the certificates of the gateway, and those that guests ask for. */
function keyService() {
  const key = generateP256Key();
  const der = rootCa({ key, now: NOW });
  const issuer = issuerOf(der, key);
  return {
    root: certificatePem(der),
    server: (name: string, appId: string) => {
      const own = generateP256Key();
      const leaf = issueCertificate({
        subject: { commonName: name },
        spki: own.spki,
        issuer,
        notAfter: NOW + 3600,
        altNames: [name],
        serverAuth: true,
        appId: fromHex(appId),
      });
      return { cert: certificatePem(leaf), key: p256KeyPem(own) };
    },
    signer: {
      sign: async ({ key: own, request }: Parameters<ServedAgent['agent']['signer']['sign']>[0]) => {
        const { subject, altNames, usageServerAuth, usageClientAuth, withAppInfo, notAfter } = request;
        const leaf = appLeaf({
          issuer,
          now: NOW,
          spki: own.spki,
          appId: fromHex(APP),
          config: {
            subject,
            subjectAltNames: altNames,
            usageServerAuth,
            usageClientAuth,
            extQuote: false,
            extAppInfo: withAppInfo,
            ...(notAfter !== undefined && { notAfter }),
          },
          appInfo: {
            appId: fromHex(APP),
            instanceId: fromHex(INSTANCE),
            composeHash: new Uint8Array(32).fill(3),
            deviceId: new Uint8Array(32),
            mrSystem: new Uint8Array(32),
            mrAggregated: new Uint8Array(32),
            osImageHash: new Uint8Array(32).fill(4),
            keyProviderInfo: new Uint8Array(),
          },
        });
        return [certificatePem(leaf), certificatePem(der)];
      },
    },
  };
}
