/** What users and strangers do at the gateway, with guests behind real tunnels. */
import { randomBytes } from 'node:crypto';
import dns from 'node:dns';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect as http2Connect } from 'node:http2';
import { createServer, type Socket, connect as tcpConnect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:tls';
import { rfc2136 } from '@dstack-cloud/certbot';
import { fromHex } from '@dstack-cloud/encoding';
import { createLogger } from '@dstack-cloud/guest-agent';
import { createPrpcClient, Gateway, httpTransport } from '@dstack-cloud/prpc';
import { AttestedFetcher, DstackClient } from '@dstack-cloud/sdk';
import { type RunningSimulator, startSimulator } from '@dstack-cloud/simulator';
import { ACME_PROGRAMS, type AcmeLab, startAcmeLab } from '@dstack-cloud/test/acme-lab';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { newKeyPair } from '@dstack-cloud/wireguard';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import {
  APP,
  BASE,
  GATEWAY,
  GATEWAY_PROGRAMS,
  type GatewayLab,
  type Guest,
  getPage,
  sh,
  startGatewayLab,
  tlsTo,
} from '../harness/gateway-lab.ts';

const STRANGER = '127.0.0.66';

describeWithPrograms('at the gateway', [...GATEWAY_PROGRAMS, ...ACME_PROGRAMS], () => {
  const sockets = new Set<Socket>();
  let lab: GatewayLab;
  let acme: AcmeLab;
  let simulator: RunningSimulator;
  let one: Guest;

  beforeAll(async () => {
    acme = await startAcmeLab();
    const proxy = `app_address_dns_servers = ["127.0.0.1:${acme.dnsPort}"]\ntimeouts = { handshake = "2s" }`;
    lab = await startGatewayLab({ proxy });
    const log = createLogger('test');
    log.level = 'silent';
    simulator = await startSimulator({ directory: join(lab.folder, 'simulator') }, log);
    one = lab.addGuest(1);
    await one.register();
    const { cert, key } = lab.kms.server(`www.${acme.zone}`, GATEWAY);
    await one.runApp({ NAME: 'one', CERT: cert, KEY: key, SOCKET: simulator.sockets.dstack });
    await vi.waitFor(() => page(), { timeout: 30_000, interval: 100 });
  }, 90_000);

  afterAll(async () => {
    for (const socket of sockets) socket.destroy();
    await lab?.stop();
    await simulator?.close();
    await acme?.stop();
  });

  const port = (): number => lab.gateway().proxyPort;
  const page = (): Promise<string> => getPage(port(), `${APP}-8080.${BASE}`, { ca: lab.kms.root });
  const zone = () =>
    rfc2136({
      host: '127.0.0.1',
      port: acme.dnsPort,
      zone: acme.zone,
      key: { name: 'acme-key', algorithm: 'hmac-sha256', secret: acme.secret },
    });

  it('gateway-http2-and-websocket: HTTP/2 to the application by g, and WebSockets', async () => {
    const name = `${APP}-50051g.${BASE}`;
    const near = await tlsTo(port(), name, { ca: lab.kms.root, ALPNProtocols: ['h2'] });
    expect(near.alpnProtocol).toBe('h2');
    const session = http2Connect(`https://${name}`, { createConnection: () => near });
    let text = '';
    for await (const chunk of session.request({ ':path': '/' })) text += String(chunk);
    session.destroy();
    expect(text).toBe('HTTP/2.0 of one');
    await expect(tlsTo(port(), name, { ALPNProtocols: ['http/1.1'] })).rejects.toThrow(/protocol|closed/i);

    const client = await tlsTo(port(), `${APP}-8080.${BASE}`, { ca: lab.kms.root });
    const key = randomBytes(16).toString('base64');
    client.write(
      `GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
    );
    expect(String((await once(client, 'data'))[0])).toMatch(/^HTTP\/1\.1 101 /);
    for (const word of ['hello', 'again']) {
      const mask = randomBytes(4);
      const bytes = Buffer.from(word).map((byte, at) => byte ^ mask.readUInt8(at % 4));
      client.write(Buffer.concat([Buffer.from([0x81, 0x80 | word.length]), mask, bytes]));
      const [frame] = (await once(client, 'data')) as [Buffer];
      expect(frame.subarray(2).toString()).toBe(word);
    }
    client.destroy();
  });

  it('gateway-custom-domain: the domain of a customer reaches the TLS of the application that its record names', async () => {
    await expect(getPage(port(), `nobody.${acme.zone}`)).rejects.toThrow();
    const names = { shop: `shop.${acme.zone}`, wide: `any.eu.${acme.zone}` };
    const remove = [
      await zone().addTxt(`_dstack-app-address.${names.shop}`, `${APP}:8443`, 60),
      await zone().addTxt(`_dstack-app-address-wildcard.eu.${acme.zone}`, `${APP}:8443`, 60),
    ];
    for (const name of Object.values(names)) {
      const client = await tlsTo(port(), name);
      expect(client.getPeerCertificate().subject.CN).toBe(`www.${acme.zone}`);
      client.destroy();
      expect(await getPage(port(), name)).toBe('own TLS of one');
    }
    for (const undo of remove) await undo();
  });

  it('gateway-localhost-through-custom-domain: no record of a stranger reaches the gateway or what listens on its loopback', async () => {
    let reached = 0;
    const inner = createServer(() => {
      reached += 1;
    }).listen(0, '127.0.0.1');
    await once(inner, 'listening');
    const { port: innerPort } = inner.address() as { port: number };
    const values = ['localhost', 'gateway', '127.0.0.1', '0.0.0.0', '[::1]', 'app.localhost', ''];
    for (const [n, value] of values.entries()) {
      const name = `n${n}.${acme.zone}`;
      await zone().addTxt(`_dstack-app-address.${name}`, `${value}:${innerPort}`, 60);
      await expect(tlsTo(port(), name), value).rejects.toThrow();
    }
    await expect(tlsTo(port(), `localhost-${innerPort}.${BASE}`)).rejects.toThrow();
    expect(reached).toBe(0);
    inner.close();
    expect(await page()).toBe('page of one');
  });

  it('gateway-passthrough-ra-tls: the client verifies the application end to end, and all that the gateway gets is ciphertext', async () => {
    const agent = new DstackClient(simulator.sockets.dstack);
    const { compose_hash, mr_aggregated } = await agent.info();
    agent.close();
    const trust = {
      expect: { compose_hash, mr_aggregated },
      simulatedRoot: readFileSync(simulator.rootFile ?? '', 'utf8'),
      collateralUrl: simulator.collateralUrl ?? '',
    };
    const tap = await tapOf(port());
    const name = `${APP}-8444s.${BASE}`;
    const url = `https://${name}:${tap.port}/`;
    const resolveAgain = resolveToLoopback();
    try {
      const fetcher = new AttestedFetcher(trust);
      const answer = await fetcher.fetch(url, { method: 'POST', body: 'a secret of the user' });
      fetcher.close();
      expect(answer.text()).toBe('one read a secret of the user');
      const passed = Buffer.concat(tap.bytes);
      expect(passed.length).toBeGreaterThan(1_000);
      expect(passed.includes('a secret of the user')).toBe(false);
      // Of an application that is not what was expected, nothing is read.
      const other = new AttestedFetcher({
        ...trust,
        expect: { ...trust.expect, compose_hash: '0'.repeat(64) },
      });
      await expect(other.fetch(url, { method: 'POST', body: 'x' })).rejects.toMatchObject({
        code: 'untrusted',
      });
      // The gateway's own TLS carries no evidence: whoever wants end to end is not served by less.
      const ended = `https://${APP}-8080.${BASE}:${tap.port}/`;
      await expect(new AttestedFetcher(trust).fetch(ended)).rejects.toMatchObject({ code: 'untrusted' });
    } finally {
      resolveAgain();
      tap.close();
    }
  }, 60_000);

  it('gateway-register-as-another-app: nobody takes the place, the address or the key of another', async () => {
    const before = sh(`wg show ${lab.interfaceName} allowed-ips`);
    const [ownKey = ''] = before.split('\t');
    const key = newKeyPair().publicKey;
    const stolen = { appId: fromHex('dd'.repeat(20)), instanceId: fromHex(one.instanceId) };
    await expect(register(lab.kms.client(stolen), key)).rejects.toThrow(/registered by another application/);
    const other = { ...stolen, instanceId: fromHex('dd'.repeat(20)) };
    await expect(register(lab.kms.client(other), ownKey)).rejects.toThrow(/key/i);
    const nobody = { rejectUnauthorized: false } as const;
    await expect(register(nobody, key)).rejects.toThrow(/Client authentication is required/);
    expect(sh(`wg show ${lab.interfaceName} allowed-ips`)).toBe(before);
    expect(await page()).toBe('page of one');
  });

  it('gateway-wireguard-config-injection: a key that is more than a key changes nothing of any tunnel', async () => {
    const file = join(lab.folder, 'state', `${lab.interfaceName}.conf`);
    const state = (): string =>
      sh(`wg show ${lab.interfaceName} allowed-ips; cat ${file} 2>/dev/null || true`);
    const before = state();
    const client = lab.kms.client({ instanceId: fromHex('ee'.repeat(20)) });
    const good = newKeyPair().publicKey;
    const evil = [
      `${good}\n[Peer]\nPublicKey = ${newKeyPair().publicKey}\nAllowedIPs = 10.235.0.0/24`,
      `${good}\r\nAllowedIPs = 0.0.0.0/0`,
      `${good} allowed-ips 0.0.0.0/0`,
      `${good}\u0000`,
      ` ${good}`,
      good.slice(0, -1),
      good.replace(/.=$/, '='),
      Buffer.alloc(32).toString('base64'),
      Buffer.alloc(33, 1).toString('base64'),
      '--help',
      '/etc/passwd',
      'x'.repeat(100_000),
      '',
    ];
    for (const key of evil) await expect(register(client, key), key.slice(0, 60)).rejects.toThrow();
    expect(state()).toBe(before);
    expect(await page()).toBe('page of one');
  });

  it('gateway-instance-dies: no request fails while another instance lives', async () => {
    const two = lab.addGuest(2);
    await two.register();
    await two.runApp({ NAME: 'two' });
    const name = `${two.instanceId}-8080.${BASE}`;
    await expect
      .poll(() => getPage(port(), name).catch((error: Error) => error.message), { timeout: 30_000 })
      .toBe('page of two');
    const failures: string[] = [];
    const answers = new Set<string>();
    let asked = 0;
    let isOver = false;
    const user = (async () => {
      while (!isOver) {
        asked += 1;
        const started = performance.now();
        await page().then(
          (text) => answers.add(text),
          (error: Error) => failures.push(`${Math.round(performance.now() - started)} ms: ${error.message}`),
        );
        await sleep(20);
      }
    })();
    await expect.poll(() => [...answers], { timeout: 10_000 }).toContain('page of two');
    // Its cable is pulled: its tunnel still counts as fresh for half an hour.
    two.cut();
    await sleep(5_000);
    isOver = true;
    await user;
    expect(failures).toEqual([]);
    expect(asked).toBeGreaterThan(50);
    // It failed again and again, and is left out: a request waits for it no longer.
    const started = performance.now();
    expect(await page()).toBe('page of one');
    expect(performance.now() - started).toBeLessThan(1_000);
    expect(answers).toContain('page of one');
  }, 60_000);

  it('gateway-slow-client-hello: a hello byte by byte has its time and no more, and others are served', async () => {
    const hello = await helloOf(`${APP}-8080.${BASE}`);
    const started = performance.now();
    const slow = raw();
    const drip = (async () => {
      for (const byte of hello) {
        if (slow.destroyed) return;
        slow.write(Buffer.from([byte]));
        await sleep(100);
      }
    })();
    const silent = raw();
    expect(await page()).toBe('page of one');
    await Promise.all([closedOf(slow), closedOf(silent)]);
    await drip;
    expect(performance.now() - started).toBeGreaterThan(1_900);
    expect(performance.now() - started).toBeLessThan(6_000);
    // In one-byte pieces, but in time, it is as good as whole.
    const quick = raw();
    for (const byte of hello) quick.write(Buffer.from([byte]));
    const [answer] = (await once(quick, 'data')) as [Buffer];
    // RFC 8446 section 5.1: a handshake record.
    expect(answer[0]).toBe(22);
  });

  it('gateway-connection-flood: two thousand silent connections of a stranger, and users of other networks are served', async () => {
    for (let i = 0; i < 2_000; i++) raw(STRANGER);
    for (let i = 0; i < 5; i++) expect(await page()).toBe('page of one');
    const kept = (): number =>
      [...sockets].filter((socket) => !socket.destroyed && socket.localAddress === STRANGER).length;
    await expect.poll(kept, { timeout: 10_000 }).toBeLessThanOrEqual(128);
    expect(await lab.metrics()).toMatch(/^dstack_gateway_connections_turned_away_total\{[^}]*\} [1-9]/m);
    await expect.poll(kept, { timeout: 10_000 }).toBe(0);
  }, 60_000);

  async function register(tls: object, clientPublicKey: string): Promise<unknown> {
    const transport = httpTransport({ baseUrl: `https://127.0.0.1:${lab.gateway().rpcPort}/prpc`, tls });
    try {
      return await createPrpcClient(Gateway, transport).registerCvm({ clientPublicKey });
    } finally {
      transport.close?.();
    }
  }

  function raw(localAddress = '127.0.0.1'): Socket {
    const socket = tcpConnect({ port: port(), host: '127.0.0.1', localAddress });
    socket.on('error', () => socket.destroy());
    socket.on('end', () => socket.destroy());
    sockets.add(socket);
    return socket;
  }
});

type Tap = { readonly port: number; readonly bytes: Buffer[]; close(): void };

/** Stands before the gateway and keeps what passes, both ways. */
async function tapOf(target: number): Promise<Tap> {
  const bytes: Buffer[] = [];
  const server = createServer((near) => {
    const far = tcpConnect({ port: target, host: '127.0.0.1' });
    for (const [from, to] of [[near, far] as const, [far, near] as const]) {
      from.on('data', (chunk: Buffer) => bytes.push(chunk));
      from.on('error', () => to.destroy());
      from.pipe(to);
    }
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { port: (server.address() as { port: number }).port, bytes, close: () => void server.close() };
}

/** Lets every name be this host's, as the wildcard record of the base domain does. @returns ends it */
function resolveToLoopback(): () => void {
  const spy = vi.spyOn(dns, 'lookup');
  spy.mockImplementation(((
    _name: string,
    options: { all?: boolean },
    done: (...answer: unknown[]) => void,
  ) =>
    options.all === true
      ? done(null, [{ address: '127.0.0.1', family: 4 }])
      : done(null, '127.0.0.1', 4)) as never);
  return () => spy.mockRestore();
}

/** The ClientHello that a client of this name sends. */
async function helloOf(servername: string): Promise<Buffer> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = connect({
    port: (server.address() as { port: number }).port,
    host: '127.0.0.1',
    servername,
  });
  client.on('error', () => client.destroy());
  const [socket] = (await once(server, 'connection')) as [Socket];
  const [hello] = (await once(socket, 'data')) as [Buffer];
  client.destroy();
  server.close();
  return hello;
}

async function closedOf(socket: Socket): Promise<void> {
  if (!socket.closed) await once(socket, 'close');
}
