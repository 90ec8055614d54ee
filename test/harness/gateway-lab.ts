/**
 * A gateway with guests: the guests' part that registers, real WireGuard tunnels, a network namespace for each guest, and a key
 * service that signs what it would sign.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get as httpGet, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type TLSSocket } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { parseAppCompose, serializeSysConfig } from '@dstack-cloud/app';
import { fromHex } from '@dstack-cloud/encoding';
import { parseConfig, type RunningGateway, runGateway } from '@dstack-cloud/gateway';
import {
  createLogger,
  type Logger,
  parseGuestConfig,
  type ServedAgent,
  startGatewayClient,
} from '@dstack-cloud/guest-agent';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import {
  type AppInfo,
  appLeaf,
  certificatePem,
  issueCertificate,
  issuerOf,
  rootCa,
} from '@dstack-cloud/ra-tls';

/** What `startGatewayLab` runs. */
export const GATEWAY_PROGRAMS: readonly string[] = ['wg', 'wireguard-go', 'ip', 'iptables'];
export const BASE = 'apps.test';
/** The application of all guests, unless told otherwise. */
export const APP: string = 'aa'.repeat(20);
export const GATEWAY: string = 'cc'.repeat(20);

/** Ports that the guests' app-compose opens. */
const PORTS = [8080, 8443, 8444, 50_051];
const APP_PROGRAM = fileURLToPath(new URL('guest-app.ts', import.meta.url));
const now = (): number => Math.floor(Date.now() / 1000);

export type GatewayLab = {
  readonly folder: string;
  readonly kms: KeyService;
  /** The gateway as it runs now. */
  readonly gateway: () => RunningGateway;
  /** What its operators' listener says about itself. */
  metrics(): Promise<string>;
  /** Name of its interface. */
  readonly interfaceName: string;
  /** A network of its own for guest `number`, from 1. */
  addGuest(number: number): Guest;
  stop(): Promise<void>;
};

export type Guest = {
  readonly instanceId: string;
  readonly namespace: string;
  /** Registers at these gateways, by default ours. @returns what the host is told meanwhile */
  register(options?: RegisterOptions): Promise<readonly string[]>;
  /** Address of its tunnel, once it has one. */
  address(): string;
  /** Runs `guest-app.ts` in its network, once the guest has an address. */
  runApp(env: {
    readonly NAME: string;
    readonly CERT?: string;
    readonly KEY?: string;
    readonly SOCKET?: string;
  }): Promise<void>;
  /** Cuts its network, as a pulled cable does. */
  cut(): void;
};

type RegisterOptions = { readonly urls?: readonly string[]; readonly gatewayAppId?: string };

export type LabOptions = {
  /** Lines of `[core.proxy]`. */
  readonly proxy?: string;
  /** Further tables. */
  readonly tables?: string;
};

let labs = 0;

export async function startGatewayLab({ proxy = '', tables = '' }: LabOptions = {}): Promise<GatewayLab> {
  const number = labs++;
  // Names of interfaces are at most 15 characters, and unique over all namespaces.
  const tag = `g${number}${process.pid}`;
  const net = `10.${210 + (process.pid % 20)}.${number}`;
  const port = 20_000 + (process.pid % 1_000) * 12 + number * 3;
  const folder = mkdtempSync(join(tmpdir(), 'gateway-lab-'));
  const kms = keyService();
  const stop = new AbortController();
  const log = silentLog();
  const undo: (() => Promise<void> | void)[] = [() => rmSync(folder, { recursive: true, force: true })];
  const at = (file: string): string => join(folder, file);
  const ends: (() => Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    for (const end of ends.reverse()) await end();
    for (const step of undo.reverse()) await step();
  };
  try {
    sh(`ip link add ${tag}b type bridge && ip address add ${net}.1/24 dev ${tag}b && ip link set ${tag}b up`);
    undo.push(() => void sh(`ip link delete ${tag}b; true`));
    mkdirSync(at('state'), { mode: 0o700 });
    writeFileSync(at('kms.pem'), kms.root);
    for (const [name, pair] of Object.entries({
      rpc: kms.server('localhost', GATEWAY),
      apps: kms.server(`*.${BASE}`, GATEWAY),
    })) {
      writeFileSync(at(`${name}.pem`), pair.cert);
      writeFileSync(at(`${name}.key`), pair.key, { mode: 0o600 });
    }
    const config = parseConfig(
      `port = ${port + 1}
      tls = { key = "${at('rpc.key')}", certs = "${at('rpc.pem')}", mutual = { ca_certs = "${at('kms.pem')}" } }
      [core]
      state_path = "${at('state')}"
      [core.admin]
      enabled = true
      [core.proxy]
      base_domain = "${BASE}"
      listen_addr = "127.0.0.1"
      listen_port = ${port + 2}
      cert_chain = "${at('apps.pem')}"
      cert_key = "${at('apps.key')}"
      ${proxy}
      [core.wg]
      interface = "${tag}x"
      driver = "userspace"
      listen_port = ${port}
      endpoint = "${net}.1:${port}"
      ip = "10.235.${number}.1/24"
      reserved_net = ["10.235.${number}.1/32"]
      client_ip_range = "10.235.${number}.0/25"
      ${tables}`,
      'gateway.toml',
    );
    let running: RunningGateway | undefined;
    const served = new Promise<RunningGateway>((ready, reject) => {
      const ended = runGateway(config, stop.signal, { log, ready });
      ended.catch(reject);
      undo.push(async () => {
        stop.abort();
        await ended;
      });
    });
    running = await served;
    const place = { tag, net, folder, kms, rpcPort: running.rpcPort };
    return {
      folder,
      kms,
      gateway: () => running,
      metrics: () => textAt(running.admin!, '/metrics'),
      interfaceName: `${tag}x`,
      addGuest: (guest) => {
        const made = guestOf(guest, place);
        ends.push(made.end);
        return made.guest;
      },
      stop: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

type Place = {
  readonly tag: string;
  readonly net: string;
  readonly folder: string;
  readonly kms: KeyService;
  readonly rpcPort: number;
};

function guestOf(
  number: number,
  { tag, net, folder, kms, rpcPort }: Place,
): { guest: Guest; end: () => Promise<void> } {
  const namespace = `${tag}n${number}`;
  const instanceId = `${number}`.padStart(40, 'b');
  const ownUrl = `https://localhost:${rpcPort}`;
  const children: ChildProcess[] = [];
  const leave: (() => Promise<void>)[] = [];
  const [outer, inner, tunnel] = ['h', 'e', 'w'].map((letter) => `${tag}${letter}${number}`) as [
    string,
    string,
    string,
  ];
  sh(`ip netns add ${namespace}
    ip link add ${outer} type veth peer name ${inner} netns ${namespace}
    ip link set ${outer} master ${tag}b && ip link set ${outer} up
    ip -n ${namespace} address add ${net}.${number + 1}/24 dev ${inner} && ip -n ${namespace} link set ${inner} up && ip -n ${namespace} link set lo up`);
  const log = silentLog();
  const address = (): string => {
    const shown = sh(`ip -n ${namespace} -o address show dev ${tunnel} 2>&1 || true`);
    return /inet (10\.235[0-9.]+)\//.exec(shown)?.[1] ?? '';
  };
  const guest: Guest = {
    instanceId,
    namespace,
    address,
    register: async (options: RegisterOptions = {}) => {
      const { urls = [ownUrl], gatewayAppId = GATEWAY } = options;
      const told: string[] = [];
      const root = mkdtempSync(join(folder, 'guest-'));
      const shared = join(root, 'dstack/.host-shared');
      mkdirSync(shared, { recursive: true });
      const sys = { kmsUrls: [], gatewayUrls: [...urls], vmConfig: '{}' };
      writeFileSync(
        join(shared, '.sys-config.json'),
        serializeSysConfig({ ...sys, pccsUrl: undefined, dockerRegistry: undefined, hostApiUrl: undefined }),
      );
      const agent = {
        config: parseGuestConfig(JSON.stringify({ root }), folder),
        compose: parseAppCompose(composeWith(PORTS)),
        keys: { caCert: kms.root, gatewayAppId },
        signer: kms.signer({ instanceId: fromHex(instanceId) }),
        log,
        now,
      } as unknown as ServedAgent['agent'];
      const end = await startGatewayClient(
        agent,
        async (event, payload) => void told.push(`${event} ${payload}`),
        { interfaceName: tunnel, driver: 'userspace', namespace, localNetworks: [] },
      );
      if (end !== undefined) leave.push(end);
      return told;
    },
    runApp: async (env) => {
      const node = [process.execPath, '--import', 'tsx', '-C', '@dstack/source', APP_PROGRAM];
      const child = spawn('ip', ['netns', 'exec', namespace, ...node], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { ...process.env, ...env, ADDRESS: await untilThere(address) },
      });
      children.push(child);
      await Promise.race([once(child.stdout!, 'data'), once(child, 'exit')]);
      if (child.exitCode !== null) throw new Error(`The program of guest ${number} ended at once`);
    },
    cut: () => void sh(`ip link set ${outer} down`),
  };
  const end = async (): Promise<void> => {
    for (const child of children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    for (const one of leave) await one();
    sh(`ip link delete ${outer}; ip netns delete ${namespace}; true`);
  };
  return { guest, end };
}

async function untilThere(address: () => string): Promise<string> {
  for (let tries = 0; tries < 200; tries++) {
    if (address() !== '') return address();
    await sleep(100);
  }
  throw new Error('The guest got no address');
}

/** What the test application's app-compose says: these ports and no other. */
function composeWith(ports: readonly number[]): string {
  return JSON.stringify({
    manifest_version: 2,
    name: 'page',
    runner: 'docker-compose',
    docker_compose_file: 'services: {}',
    key_provider: 'kms',
    gateway_enabled: true,
    port_policy: { ports: ports.map((port) => ({ port })), restrict_mode: true },
  });
}

/** What a key service signs: the certificates of the gateway, and those that guests ask for. PEM. */
export type KeyService = {
  readonly root: string;
  server(name: string, appId: string): { cert: string; key: string };
  /** Certificate and key of a guest that asks by itself. */
  client(fields: Partial<AppInfo>): { cert: string; key: string; rejectUnauthorized: false };
  signer(fields: Partial<AppInfo>): ServedAgent['agent']['signer'];
};

export function keyService(): KeyService {
  const key = generateP256Key();
  const der = rootCa({ key, now: now() });
  const issuer = issuerOf(der, key);
  const infoOf = (fields: Partial<AppInfo>): AppInfo => ({
    appId: fromHex(APP),
    instanceId: fromHex('bb'.repeat(20)),
    composeHash: new Uint8Array(32).fill(3),
    deviceId: new Uint8Array(32),
    mrSystem: new Uint8Array(32),
    mrAggregated: new Uint8Array(32),
    osImageHash: new Uint8Array(32).fill(4),
    keyProviderInfo: new Uint8Array(),
    ...fields,
  });
  return {
    root: certificatePem(der),
    server: (name, appId) => {
      const own = generateP256Key();
      const leaf = issueCertificate({
        subject: { commonName: name },
        spki: own.spki,
        issuer,
        notAfter: now() + 3600,
        altNames: [name],
        serverAuth: true,
        appId: fromHex(appId),
      });
      return { cert: certificatePem(leaf), key: p256KeyPem(own) };
    },
    client: (fields) => {
      const own = generateP256Key();
      const leaf = issueCertificate({
        subject: { commonName: 'dstack-guest-agent' },
        spki: own.spki,
        issuer,
        notAfter: now() + 3600,
        clientAuth: true,
        appInfo: infoOf(fields),
      });
      return { cert: certificatePem(leaf), key: p256KeyPem(own), rejectUnauthorized: false };
    },
    signer: (fields) => ({
      sign: async ({ key: own, request }) => {
        const { subject, altNames, usageServerAuth, usageClientAuth, withAppInfo, notAfter } = request;
        const leaf = appLeaf({
          issuer,
          now: now(),
          spki: own.spki,
          appId: infoOf(fields).appId,
          config: {
            subject,
            subjectAltNames: altNames,
            usageServerAuth,
            usageClientAuth,
            extQuote: false,
            extAppInfo: withAppInfo,
            ...(notAfter !== undefined && { notAfter }),
          },
          appInfo: infoOf(fields),
        });
        return [certificatePem(leaf), certificatePem(der)];
      },
    }),
  };
}

function silentLog(): Logger {
  const log = createLogger('test');
  log.level = 'silent';
  return log;
}

async function textAt(socketPath: string, path: string): Promise<string> {
  const [response] = (await once(httpGet({ socketPath, path, agent: false }), 'response')) as [
    IncomingMessage,
  ];
  let text = '';
  for await (const chunk of response) text += chunk;
  return text;
}

/** The body of a page, over a connection of its own. */
export async function getPage(
  port: number,
  servername: string,
  options: { readonly ca?: string; readonly path?: string; readonly host?: string } = {},
): Promise<string> {
  const { ca, path = '/', host = '127.0.0.1' } = options;
  const request = httpsRequest({
    host,
    port,
    servername,
    path,
    agent: false,
    ...(ca === undefined ? { rejectUnauthorized: false } : { ca }),
  });
  request.setTimeout(10_000, () => request.destroy(new Error('no answer in time')));
  request.end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  let body = '';
  for await (const chunk of response) body += chunk;
  return body;
}

/** A TLS connection whose handshake is over. */
export async function tlsTo(
  port: number,
  servername: string,
  options: { readonly ca?: string; readonly ALPNProtocols?: string[] } = {},
): Promise<TLSSocket> {
  const { ca, ALPNProtocols } = options;
  const socket = connect({
    host: '127.0.0.1',
    port,
    servername,
    ...(ca === undefined ? { rejectUnauthorized: false } : { ca }),
    ...(ALPNProtocols && { ALPNProtocols }),
  });
  await Promise.race([
    once(socket, 'secureConnect'),
    once(socket, 'close').then(() => Promise.reject(new Error('closed before the handshake was over'))),
  ]);
  socket.on('error', () => socket.destroy());
  return socket;
}

export function sh(line: string): string {
  return execFileSync('sh', ['-c', line], { encoding: 'utf8' }).trim();
}
