import { createServer, type Server, type Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { type GuardedStream, guardStreams, networkOf } from '@dstack-cloud/prpc';
import { joinStreams, Slots } from '@dstack-cloud/vsock';
import { readServerName } from '../hello/client-hello.ts';
import { type ProxiedConnection, readProxyHeader, writeProxyHeader } from '../hello/proxy-header.ts';
import type { AppAddress } from '../names/app-address.ts';
import { type HostTarget, labelBelow, parseHostLabel } from '../names/host-name.ts';
import { chooseInstances } from '../routes/choose-instances.ts';
import { type Instance, portRule } from '../routes/instance.ts';
import { connectFirst } from './connect-first.ts';
import type { ProxyOptions, ProxyRecord } from './proxy-options.ts';
import { readBeginning } from './read-beginning.ts';

/** Lookups that one network may have under way: whoever's name servers do not answer waits for itself. */
const MAX_LOOKUPS_PER_NETWORK = 32;
/** Names of the gateway itself, reached at their default port with TLS that ends here. */
const OWN = new Set(['gateway', 'health']);
const OWN_PORT = 80;
/** What a client gets that speaks HTTP to the TLS port. */
const HTTP_REFUSAL =
  'HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nThis port speaks TLS: use https.\n';

/** Ends the way of one connection; `record` says where. */
class Refusal extends Error {
  readonly outcome: ProxyRecord['outcome'];

  constructor(outcome: ProxyRecord['outcome'], reason: string) {
    super(reason);
    this.outcome = outcome;
  }
}

type Beginning = { readonly hello: Buffer; readonly name: string; readonly proxied: ProxiedConnection };

type Target = HostTarget & { readonly domain?: string };

/**
 * The listener for users: reads the server name of each TLS connection and relays it to an instance of the application
 * that the name says, with TLS ended here or untouched (docs/protocol/gateway.md). What cannot be routed is closed.
 */
export function createProxyServer(options: ProxyOptions): Server {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true });
  const lookups = new Slots({
    connections: Number.POSITIVE_INFINITY,
    connections_per_source: MAX_LOOKUPS_PER_NETWORK,
  });
  guardStreams(server, options.connections, (stream) => {
    void serve(stream, options, lookups).then((record) => {
      stream.socket.destroy();
      options.onRecord(record);
    });
  });
  return server;
}

async function serve(stream: GuardedStream, options: ProxyOptions, lookups: Slots): Promise<ProxyRecord> {
  let known: Partial<ProxyRecord> = {};
  try {
    const beginning = await begin(stream, options);
    stream.spoke();
    const source = networkOf(beginning.proxied.source?.address ?? stream.address);
    known = { source, name: beginning.name };
    const target = await targetOf(beginning.name, source, options, lookups);
    const isOwn = OWN.has(target.id) && target.domain !== undefined;
    known = { ...known, mode: isOwn ? 'own' : target.mode };
    if (isOwn) return { source, ...known, ...(await serveOwn(stream, beginning, target, options)) };
    return { source, ...known, ...(await route(stream, beginning, target, options)) };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    // A fault of ours ends this connection, not the gateway.
    const outcome = error instanceof Refusal ? error.outcome : 'fault';
    return { source: stream.network, ...known, outcome, reason };
  }
}

/** The server name, and every byte that came with it. */
async function begin({ socket }: GuardedStream, options: ProxyOptions): Promise<Beginning> {
  const { timeouts, inboundProxyHeader } = options;
  let proxied = directConnection(socket);
  let rest: Buffer = Buffer.alloc(0);
  if (inboundProxyHeader) {
    const header = await readBeginning(socket, readProxyHeader, timeouts.proxyHeader);
    if (header === undefined) throw new Refusal('no-name', 'no PROXY header came in time');
    if (header.result.kind === 'refused') throw new Refusal('no-name', header.result.why);
    proxied = header.result.connection;
    rest = header.bytes.subarray(header.result.length);
  }
  const hello = await readBeginning(socket, readServerName, timeouts.handshake, rest);
  if (hello === undefined) throw new Refusal('no-name', 'no server name came in time');
  const { result, bytes } = hello;
  if (result.kind === 'http') {
    socket.end(HTTP_REFUSAL);
    await new Promise((resolve) => setImmediate(resolve));
    throw new Refusal('not-tls', 'plain HTTP on the TLS port');
  }
  if (result.kind === 'refused')
    throw new Refusal(result.why === 'not TLS' ? 'not-tls' : 'no-name', result.why);
  return { hello: bytes, name: result.name, proxied };
}

async function targetOf(
  name: string,
  source: string,
  { certificates, customDomains, table, timeouts }: ProxyOptions,
  lookups: Slots,
): Promise<Target> {
  const own = labelBelow(name, certificates.domains);
  if (own !== undefined) {
    const target = parseHostLabel(own.label);
    if (typeof target === 'string') throw new Refusal('bad-name', target);
    return { ...target, domain: own.domain };
  }
  const giveBack = lookups.take(source);
  if (giveBack === undefined) throw new Refusal('dns', 'too many lookups of this network are under way');
  const addresses = await within(timeouts.dns, customDomains.resolve(name)).finally(giveBack);
  const isRegistered = ({ id }: AppAddress): boolean =>
    table.get(id) !== undefined || table.ofApp(id).length > 0;
  const address = addresses.find(isRegistered) ?? addresses[0];
  if (address === undefined) throw new Refusal('unknown-app', 'the domain names no application');
  return { ...address, mode: 'passthrough' };
}

async function within<T>(ms: number, asked: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Refusal('dns', 'the lookup took too long')), ms);
  });
  try {
    return await Promise.race([asked, late]);
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal('dns', `the lookup failed: ${error instanceof Error ? error.message : error}`);
  } finally {
    clearTimeout(timer);
  }
}

/** The candidates that may be reached at this port. */
function candidatesFor({ id, port }: Target, options: ProxyOptions): readonly Instance[] {
  const { table, health, handshakes, topN, staleSeconds, policy, maxConnectionsPerApp } = options;
  const now = options.now?.() ?? Math.floor(Date.now() / 1000);
  const chosen = chooseInstances(id, {
    table,
    health,
    handshakes: handshakes(),
    topN,
    staleSeconds,
    policy,
    now,
  });
  if (chosen.length === 0) throw new Refusal('unknown-app', 'no instance of this application has a tunnel');
  const unknown = chosen.filter(({ portPolicy }) => portPolicy === undefined);
  for (const instance of unknown) options.onUnknownPolicy(instance);
  const allowed = chosen.filter((instance) => portRule(instance, port).allowed);
  if (allowed.length === 0) {
    throw new Refusal(
      'denied-port',
      unknown.length === 0
        ? `port ${port} denied by app port policy`
        : `port ${port}: the port policy of the application is not known yet`,
    );
  }
  const open = table
    .ofApp(chosen[0]!.appId)
    .reduce((sum, { instanceId }) => sum + health.open(instanceId), 0);
  if (maxConnectionsPerApp > 0 && open >= maxConnectionsPerApp)
    throw new Refusal('app-full', 'the application has as many connections as it may');
  return allowed;
}

async function route(
  stream: GuardedStream,
  beginning: Beginning,
  target: Target,
  options: ProxyOptions,
): Promise<Pick<ProxyRecord, 'outcome' | 'reason' | 'instanceId' | 'sent' | 'received'>> {
  const { timeouts, health } = options;
  // Before the handshake: an unknown application costs no cryptography.
  const candidates = candidatesFor(target, options);
  const near =
    target.mode === 'passthrough' ? stream.socket : await handshake(stream, beginning.hello, target, options);
  const gone = new AbortController();
  const abort = (): void => gone.abort();
  stream.socket.once('close', abort);
  const connected = await connectFirst(candidates, {
    port: target.port,
    health,
    timeoutMs: timeouts.connect,
    signal: gone.signal,
  });
  stream.socket.off('close', abort);
  if (connected === undefined) throw new Refusal('no-answer', 'no instance answers at this port');
  const { socket: far, instance, end } = connected;
  stream.relayed();
  if (portRule(instance, target.port).proxyProtocol) far.write(writeProxyHeader(beginning.proxied));
  if (target.mode === 'passthrough') far.write(beginning.hello);
  const total = setTimeout(() => {
    near.destroy();
    far.destroy();
  }, timeouts.total);
  const { sent, received, reason } = await joinStreams(near, far, timeouts.idle);
  clearTimeout(total);
  end();
  return { outcome: 'relayed', reason, sent, received, instanceId: instance.instanceId };
}

async function serveOwn(
  stream: GuardedStream,
  { hello }: Beginning,
  target: Target,
  options: ProxyOptions,
): Promise<Pick<ProxyRecord, 'outcome'>> {
  if (target.port !== OWN_PORT || target.mode !== 'terminate')
    throw new Refusal('bad-name', 'the gateway itself is reached at its default port only');
  const socket = await handshake(stream, hello, target, options);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  options.serveOwn(socket, target.id as 'gateway' | 'health');
  await closed;
  return { outcome: 'own' };
}

/** Ends TLS here. What was read of the ClientHello is read again, by OpenSSL. */
async function handshake(
  { socket }: GuardedStream,
  hello: Buffer,
  { domain = '', mode }: Target,
  { certificates, timeouts }: ProxyOptions,
): Promise<TLSSocket> {
  const secureContext = certificates.contextFor(domain);
  if (secureContext === undefined) throw new Refusal('no-certificate', 'there is no certificate in force');
  socket.unshift(hello);
  const tls = new TLSSocket(socket, {
    isServer: true,
    secureContext,
    ...(mode === 'h2' && { ALPNProtocols: ['h2'] }),
  });
  // Only after the handshake: a client that goes away before is gone.
  tls.allowHalfOpen = false;
  tls.on('error', () => tls.destroy());
  await new Promise<void>((resolve, reject) => {
    const fail = (reason: string): void => {
      clearTimeout(timer);
      tls.destroy();
      reject(new Refusal('handshake', reason));
    };
    const timer = setTimeout(() => fail('the TLS handshake took too long'), timeouts.handshake);
    tls.once('secure', () => {
      clearTimeout(timer);
      tls.allowHalfOpen = true;
      resolve();
    });
    tls.once('error', (error) => fail(error.message));
    tls.once('close', () => fail('the client went away'));
  });
  return tls;
}

function directConnection({ remoteAddress, remotePort, localAddress, localPort }: Socket): ProxiedConnection {
  if (remoteAddress === undefined || localAddress === undefined) return { version: 2 };
  return {
    version: 2,
    source: { address: plain(remoteAddress), port: remotePort ?? 0 },
    destination: { address: plain(localAddress), port: localPort ?? 0 },
  };
}

/** Without the prefix of an IPv4 address that came by an IPv6 socket, and without a zone (RFC 4007), which is of this host. */
function plain(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/, '').replace(/%.*$/, '');
}
