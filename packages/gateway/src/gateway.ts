import { Resolver } from 'node:dns/promises';
import { once } from 'node:events';
import type { Server as HttpServer } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import type { Server, Socket } from 'node:net';
import { join } from 'node:path';
import { readFileBounded } from '@dstack-cloud/app';
import { caaIssuerOf } from '@dstack-cloud/certbot';
import { makeOwnDirectory, withLock } from '@dstack-cloud/files';
import {
  CONNECTION_LIMITS,
  createPrpcHandler,
  LISTEN_BACKLOG,
  networkOf,
  RpcError,
  takeToll,
} from '@dstack-cloud/prpc';
import { createRaTlsServer } from '@dstack-cloud/ra-tls';
import { sharedFor } from '@dstack-cloud/runtime';
import type { Logger } from 'pino';
import { createAdminServer, createMetricsServer } from './admin/admin-server.ts';
import { Fleet } from './admin/fleet.ts';
import { adminPlace, hostAndPort, listenPrivately } from './admin/start-admin.ts';
import {
  agentCredentials,
  agentInfo,
  type ListenerCredentials,
  stateSecret,
} from './certificates/agent-credentials.ts';
import { CertificateKeeper } from './certificates/certificate-keeper.ts';
import { type ConfiguredDns, dnsProviderOf } from './certificates/dns-provider-of.ts';
import { guestAgentAttester } from './certificates/guest-agent-attester.ts';
import type { GatewayConfig } from './config/gateway-config.ts';
import { GatewayError } from './errors.ts';
import { createMetrics } from './metrics.ts';
import { AppAddressResolver, type TxtLookup } from './names/app-address-resolver.ts';
import { NodeList } from './nodes/node-list.ts';
import { createOwnSite } from './own-site.ts';
import { CertificateStore } from './proxy/certificate-store.ts';
import { createProxyServer } from './proxy/proxy-server.ts';
import { askPortPolicy } from './register/ask-port-policy.ts';
import { type Imported, importState } from './register/import-state.ts';
import { PolicyFinder } from './register/policy-finder.ts';
import { Registry } from './register/registry.ts';
import { InstanceHealth } from './routes/instance-health.ts';
import { acmeInfo, acmeInfoJson } from './rpc/acme-info.ts';
import { type Caller, gatewayMethods } from './rpc/gateway-service.ts';
import type { EtcdOptions } from './state/etcd-client.ts';
import { openEtcdStore } from './state/etcd-store.ts';
import { sealedStore } from './state/sealed-store.ts';
import { openSqliteStore } from './state/sqlite-store.ts';
import type { StateStore } from './state/state-store.ts';
import { VERSION } from './version.ts';
import { addressPlan } from './wireguard/address-plan.ts';
import { interfaceKey } from './wireguard/interface-key.ts';
import { startWireGuard } from './wireguard/wireguard.ts';

/** What each call of a network costs of what it may cost in a minute. */
const CALL_COST = 1;
const INFO_REUSE_MS = 5_000;
/** How long open connections of users may go on when the gateway is to end. */
const DRAIN_MS = 4_000;
const MAX_PEM_BYTES = 1 << 20;
const MAX_IMPORT_BYTES = 256 << 20;
const HANDSHAKES_EVERY_MS = 10_000;
/** A tunnel that was just registered is looked for so often, and for so long. */
const NEW_TUNNELS_EVERY_MS = 1_000;
const NEW_TUNNELS_FOR_MS = 30_000;
const RECONCILE_EVERY_MS = 300_000;
/** Connections of a network that have not said their name: those of a page's many requests at once, not more. */
const SILENT_SHARE = 128;
const MAX_SILENT = 2_048;

export type RunningGateway = {
  readonly proxyPort: number;
  readonly rpcPort: number;
  /** Socket or address of the operators' listener. */
  readonly admin?: string;
};

type Options = {
  readonly log: Logger;
  /** Told once, when everything listens. */
  readonly ready?: (running: RunningGateway) => void;
};

/**
 * Serves until `signal` fires.
 * @throws GatewayError; FilesError `locked` when another gateway has the state folder
 */
export async function runGateway(
  config: GatewayConfig,
  signal: AbortSignal,
  options: Options,
): Promise<void> {
  const { state_path: folder } = config.core;
  makeOwnDirectory(folder);
  const lock = { waitMs: 0, what: `The state folder ${folder}`, signal };
  await withLock(folder, 'gateway', lock, () => serve(config, signal, options));
}

async function serve(config: GatewayConfig, signal: AbortSignal, { log, ready }: Options): Promise<void> {
  const { core } = config;
  const { proxy, wg } = core;
  // All that can be wrong with the configuration is found before anything is changed.
  const plan = addressPlan({ ip: wg.ip, reservedNet: wg.reserved_net, clientIpRange: wg.client_ip_range });
  const place = adminPlace(config);
  const certificates = await certificatesOf(config);
  const { key, certChain, clientCa } = await listenerCredentials(config);
  const zone = await dnsProviderOf(config);
  const etcd = await etcdOf(config);
  const secret = await secretOf(config);
  const { privateKey, publicKey } = await interfaceKey(wg.private_key, core.state_path);

  const closers: (() => Promise<unknown> | unknown)[] = [];
  try {
    const store = openState(config, etcd, secret);
    closers.push(() => store.close());
    const wireGuard = await startWireGuard({
      interfaceName: wg.interface,
      driver: wg.driver,
      privateKey,
      publicKey,
      listenPort: wg.listen_port,
      address: wg.ip,
      folder: core.state_path,
      onError: (error) => log.error({ error: error.message }, 'WireGuard could not be told a change'),
    });
    closers.push(() => wireGuard.close());
    const registry = await Registry.load(
      {
        store,
        plan,
        tunnels: wireGuard,
        ownPublicKey: publicKey,
        now: unixNow,
        isShared: etcd !== undefined,
      },
      (record, why) => log.error({ record, why }, 'a registration cannot be read; it is left out'),
    );
    closers.push(() => registry.close());
    await wireGuard.reconcile(registry.peers());
    const nodes = await NodeList.join({
      store,
      own: { publicKey, ip: wg.ip, endpoint: wg.endpoint },
      onError: (error) => log.error({ error }, 'the nodes of this state are not known for certain'),
    });
    closers.push(() => nodes.leave());

    const policies = new PolicyFinder({
      table: registry.table,
      ask: (instance, stopped) => askPortPolicy(instance, proxy.agent_port, stopped),
      learn: (instance, policy) => registry.learnPolicy(instance, policy),
      onGivenUp: ({ instanceId }, why) =>
        log.warn(
          { instance: instanceId, why },
          'the port policy of an instance cannot be found out; its ports stay closed',
        ),
    });
    closers.push(() => policies.close());

    let handshakes: ReadonlyMap<string, number> = await wireGuard.handshakes();
    const repeat = (ms: number, what: string, work: () => Promise<unknown>): void => {
      const timer = setInterval(() => {
        work().catch((error: unknown) => log.error({ error: (error as Error).message }, `${what} failed`));
      }, ms);
      closers.push(() => clearInterval(timer));
    };
    let [readAt, registeredAt] = [performance.now(), Number.NEGATIVE_INFINITY];
    repeat(NEW_TUNNELS_EVERY_MS, 'reading handshakes', async () => {
      const now = performance.now();
      if (now - readAt < HANDSHAKES_EVERY_MS && now - registeredAt > NEW_TUNNELS_FOR_MS) return;
      readAt = now;
      handshakes = await wireGuard.handshakes();
    });
    repeat(RECONCILE_EVERY_MS, 'comparing WireGuard peers', () => wireGuard.reconcile(registry.peers()));
    const { recycle } = core;
    if (recycle.enabled) {
      repeat(recycle.interval * 1000, 'forgetting old registrations', async () => {
        const gone = await registry.recycle(unixNow() - recycle.timeout, await wireGuard.handshakes());
        for (const { instanceId, ip } of gone)
          log.info({ instance: instanceId, ip }, 'registration forgotten');
      });
    }

    const health = new InstanceHealth();
    const fleet = new Fleet({ table: registry.table, health, handshakes: () => handshakes, now: unixNow });
    const metrics = createMetrics(VERSION, {
      registered: () => fleet.registered,
      online: () => fleet.online,
      openConnections: () => fleet.openConnections,
      certificateEnd: () => {
        const certificate = certificates.certificateFor(proxy.base_domain);
        return certificate && Math.floor(Date.parse(certificate.validTo) / 1000);
      },
    });

    const keeper = zone && keeperOf(config, zone, store, certificates);
    if (keeper !== undefined) {
      if (!(await keeper.load()))
        log.warn({ domain: proxy.base_domain }, 'there is no certificate in force yet');
      closers.push(
        await keeper.follow((error) => log.error({ error: error.message }, 'a certificate cannot be shown')),
      );
      // What cannot be pinned now is tried again with the next look at the certificate; nobody is served worse meanwhile.
      const pin = async (): Promise<void> => {
        try {
          if (await keeper.setCaa()) log.warn({ domain: proxy.base_domain }, 'the CAA records were set');
        } catch (error) {
          log.error({ error: (error as Error).message }, 'setting the CAA records failed');
        }
      };
      const renew = async (): Promise<void> => {
        if (await keeper.renew()) log.info({ domain: proxy.base_domain }, 'a new certificate is shown');
        if (core.certbot.auto_set_caa) await pin();
      };
      // Guests and connections that need no certificate of ours do not wait for an authority.
      renew().catch((error: unknown) =>
        log.error({ error: (error as Error).message }, 'renewing the certificate failed'),
      );
      repeat(core.certbot.renew_interval * 1000, 'renewing the certificate', renew);
    }

    // Reading the history of keys again for each stranger would cost more than its answer.
    const certificateInfo = keeper && sharedFor(INFO_REUSE_MS, () => acmeInfo(proxy.base_domain, keeper));
    const ownSite = createOwnSite({
      ...(core.agent_socket !== '' && {
        '/app-info': sharedFor(INFO_REUSE_MS, () => agentInfo(core.agent_socket)),
      }),
      ...(certificateInfo && { '/acme-info': async () => acmeInfoJson(await certificateInfo()) }),
    });
    closers.push(() => ownSite.close());
    const users = createProxyServer({
      table: registry.table,
      health,
      handshakes: () => handshakes,
      certificates,
      customDomains: new AppAddressResolver({
        lookup: txtLookup(proxy.app_address_dns_servers),
        prefix: proxy.app_address_ns_prefix,
        legacy: proxy.app_address_ns_compat,
      }),
      serveOwn: (socket, id) => ownSite.serve(socket, id),
      onUnknownPolicy: (instance) => policies.want(instance),
      timeouts: timeoutsOf(config),
      topN: proxy.connect_top_n,
      staleSeconds: proxy.timeouts.handshake_stale,
      policy: proxy.balance,
      maxConnectionsPerApp: proxy.max_connections_per_app,
      inboundProxyHeader: proxy.inbound_pp_enabled,
      connections: {
        ...CONNECTION_LIMITS,
        max: proxy.max_connections,
        maxPerNetwork: proxy.max_connections_per_address,
        maxSilent: MAX_SILENT,
        maxSilentPerNetwork: SILENT_SHARE,
        costPerMinute: 6_000,
        costBurst: 2_000,
        onTurnedAway: (why, address) => {
          metrics.turnedAway(why);
          log.warn({ source: networkOf(address), why }, 'connection turned away');
        },
      },
      onRecord: (record) => {
        metrics.connection(record);
        log[record.outcome === 'relayed' || record.outcome === 'own' ? 'debug' : 'info'](
          record,
          'connection ended',
        );
      },
    });
    const guests = createRaTlsServer({
      key,
      certChain,
      clientCa,
      handler: createPrpcHandler<Caller>({
        mounts: [
          {
            path: '/prpc',
            trim: ['Gateway.', 'Tproxy.'],
            services: [
              gatewayMethods({
                config,
                registry,
                nodes: () => nodes.all(),
                ...(certificateInfo && { acmeInfo: certificateInfo }),
                onUnknownPolicy: (instance) => policies.want(instance),
                onRegistration: (outcome, fields) => {
                  metrics.registration(outcome);
                  if (outcome === 'accepted') registeredAt = performance.now();
                  log.info({ outcome, ...fields }, 'registration');
                },
              }),
            ],
          },
        ],
        routes: [{ path: '/health', handle: () => ({ body: 'OK' }) }],
        headers: { Server: 'dstack-gateway', 'X-App-Version': `v${VERSION} (dstack-cloud)` },
        before: (request) => {
          if (!takeToll(request, CALL_COST))
            throw new RpcError('Too many requests; try again later', { code: 'RATE_LIMITED', status: 429 });
          return { request };
        },
      }),
    });
    const ending = new AbortController();
    let admin: string | undefined;
    if (place !== undefined) {
      const operators = createAdminServer({
        fleet,
        metrics,
        baseDomain: proxy.base_domain,
        port: proxy.listen_port,
        publicKey,
        token: place.token,
        ...(keeper && { renew: () => keeper.renew({ force: true }), setCaa: () => keeper.setCaa() }),
        exit: () => ending.abort(),
        now: unixNow,
        onCall: (method, status) => log.info({ method, status }, 'operator called'),
      });
      closers.push(() => closeNow(operators));
      const { address } = place;
      if (address === 'unix') admin = await listenPrivately(operators, core.state_path);
      else {
        await listen(operators, address.host, address.port);
        admin = `${address.host}:${portOf(operators)}`;
      }
      log.info({ admin }, 'operators are served');
    }
    if (core.metrics.address !== '') {
      const collectors = createMetricsServer(metrics);
      closers.push(() => closeNow(collectors));
      const { host, port } = hostAndPort(core.metrics.address);
      await listen(collectors, host, port);
    }
    const drain = drainOf(users);
    closers.push(drain, () => closeNow(guests));
    await listen(users, proxy.listen_addr, proxy.listen_port);
    await listen(guests, config.address, config.port);
    log.info(
      { driver: wireGuard.driver, registered: registry.table.size, domain: proxy.base_domain },
      'gateway serves',
    );
    ready?.({ proxyPort: portOf(users), rpcPort: portOf(guests), ...(admin !== undefined && { admin }) });
    const end = AbortSignal.any([signal, ending.signal]);
    if (!end.aborted) await once(end, 'abort');
  } finally {
    // The last that was begun ends first.
    for (const close of closers.reverse()) await close();
  }
}

/** @param secret of the TEE, which seals keys in it; undefined where there is none */
function openState(
  { core: { state_path: folder } }: GatewayConfig,
  etcd: EtcdOptions | undefined,
  secret: Uint8Array | undefined,
): StateStore {
  const store = etcd === undefined ? openSqliteStore(join(folder, 'state.db')) : openEtcdStore(etcd);
  return secret === undefined ? store : sealedStore(store, secret);
}

async function secretOf({
  core: { agent_socket: own, certbot },
}: GatewayConfig): Promise<Uint8Array | undefined> {
  const socket = own || certbot.agent_socket;
  return socket === '' ? undefined : await stateSecret(socket);
}

/**
 * Takes over the registrations of a gateway of the 0.6 line, while no gateway runs on this state folder.
 * @throws GatewayError; FilesError `locked`
 */
export async function importStateFile(
  config: GatewayConfig,
  file: string,
  signal: AbortSignal,
): Promise<Imported> {
  const { state_path: folder } = config.core;
  makeOwnDirectory(folder);
  const lock = { waitMs: 0, what: `The state folder ${folder}`, signal };
  return await withLock(folder, 'gateway', lock, async () => {
    const text = await readState(file);
    const store = openState(config, await etcdOf(config), undefined);
    try {
      return await importState(text, store);
    } finally {
      await store.close();
    }
  });
}

async function certificatesOf({ core: { proxy } }: GatewayConfig): Promise<CertificateStore> {
  const has = (version: '1.2' | '1.3'): boolean => proxy.tls_versions.includes(version);
  const store = new CertificateStore({
    minVersion: has('1.2') ? 'TLSv1.2' : 'TLSv1.3',
    maxVersion: has('1.3') ? 'TLSv1.3' : 'TLSv1.2',
  });
  store.add(proxy.base_domain);
  if (proxy.cert_chain === '') return store;
  const [certChain, key] = await Promise.all([readPem(proxy.cert_chain), readPem(proxy.cert_key)]);
  store.set(proxy.base_domain, { certChain, key });
  return store;
}

async function listenerCredentials({ tls, core }: GatewayConfig): Promise<ListenerCredentials> {
  if (core.rpc_domain !== '') return await agentCredentials(core.agent_socket, core.rpc_domain);
  const files = [tls.key, tls.certs, tls.mutual.ca_certs].map(readPem);
  const [key, certChain, clientCa] = (await Promise.all(files)) as [string, string, string];
  return { key, certChain, clientCa };
}

async function etcdOf({ core: { etcd } }: GatewayConfig): Promise<EtcdOptions | undefined> {
  const { endpoints } = etcd;
  if (endpoints.length === 0) return undefined;
  if (etcd.ca === '') return { endpoints };
  const [ca, cert, key] = await Promise.all([readPem(etcd.ca), readPem(etcd.cert), readPem(etcd.key)]);
  return { endpoints, tls: { ca, cert, key } };
}

function keeperOf(
  { core: { certbot, proxy, agent_socket: agentSocket } }: GatewayConfig,
  { dns, nameServers }: ConfiguredDns,
  store: StateStore,
  certificates: CertificateStore,
): CertificateKeeper {
  return new CertificateKeeper({
    domain: proxy.base_domain,
    directoryUrl: certbot.acme_url,
    store,
    certificates,
    dns,
    nameServers,
    maxDnsWaitMs: certbot.max_dns_wait * 1000,
    txtTtlSeconds: certbot.dns_txt_ttl,
    renewBeforeSeconds: certbot.renew_before_expiration,
    attest: guestAgentAttester(certbot.agent_socket || agentSocket),
    caaIssuer: async () => certbot.caa_issuer || (await caaIssuerOf(certbot.acme_url)),
    now: unixNow,
  });
}

function readPem(path: string): Promise<string> {
  return readText(path, MAX_PEM_BYTES);
}

function readState(path: string): Promise<string> {
  return readText(path, MAX_IMPORT_BYTES);
}

async function readText(path: string, limit: number): Promise<string> {
  try {
    return new TextDecoder().decode(await readFileBounded(path, limit));
  } catch (cause) {
    throw new GatewayError('config-unreadable', `${path} cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  }
}

function timeoutsOf({ core: { proxy } }: GatewayConfig) {
  const { handshake, pp_header, connect, dns_resolve, idle, total } = proxy.timeouts;
  return {
    handshake: handshake * 1000,
    proxyHeader: pp_header * 1000,
    connect: connect * 1000,
    dns: dns_resolve * 1000,
    idle: idle * 1000,
    total: total * 1000,
  };
}

const NO_RECORD = new Set(['ENODATA', 'ENOTFOUND']);

function txtLookup(servers: readonly string[]): TxtLookup {
  const resolver = new Resolver({ timeout: 2_000, tries: 2 });
  if (servers.length > 0) resolver.setServers(servers);
  return async (name) => {
    try {
      return { records: await resolver.resolveTxt(name) };
    } catch (error) {
      if (NO_RECORD.has((error as NodeJS.ErrnoException).code ?? '')) return { records: [] };
      throw error;
    }
  };
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  try {
    server.listen({ host, port, backlog: LISTEN_BACKLOG });
    await once(server, 'listening');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why = code === 'EADDRINUSE' ? 'another process listens there' : code;
    throw new GatewayError('listen-failed', `Cannot listen on ${host} port ${port}: ${why}`, { cause });
  }
}

/** Takes no more connections, lets those that are open go on for a moment, then cuts them. */
function drainOf(server: Server): () => Promise<void> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  return async () => {
    const timer = setTimeout(() => {
      for (const socket of sockets) socket.destroy();
    }, DRAIN_MS);
    await ended(server);
    clearTimeout(timer);
  };
}

function portOf(server: Server): number {
  return (server.address() as { port: number }).port;
}

async function closeNow(server: HttpServer | HttpsServer): Promise<void> {
  server.closeAllConnections();
  await ended(server);
}

async function ended(server: Server): Promise<void> {
  if (server.listening) await new Promise((resolve) => server.close(resolve));
}

function unixNow(): number {
  return Math.floor(Date.now() / 1000);
}
