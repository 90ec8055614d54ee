import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createPrpcClient, gateway, httpTransport } from '@dstack-cloud/prpc';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { parseConfig } from '../config/load-config.ts';
import { createMetrics } from '../metrics.ts';
import type { Instance } from '../routes/instance.ts';
import { InstanceHealth } from '../routes/instance-health.ts';
import { RoutingTable } from '../routes/routing-table.ts';
import { instance } from '../test/lab.ts';
import { createAdminServer, createMetricsServer } from './admin-server.ts';
import { dashboardPage } from './dashboard-page.ts';
import { Fleet } from './fleet.ts';
import { adminPlace, listenPrivately } from './start-admin.ts';

const NOW = 1_700_000_000;
const TOKEN = 'a token of an operator';
const folder = mkdtempSync(join(tmpdir(), 'gateway-admin-'));
const servers: Server[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('the listener for operators', () => {
  it('tells who is registered, in the words of the original', async () => {
    const { client } = await lab();
    expect(await client.getMeta({})).toMatchObject({ registered: 2, online: 1 });
    const { hosts, id } = await client.status({});
    expect(id).toHaveLength(20);
    expect(hosts).toHaveLength(2);
    const { info, found } = await client.getInfo({ id: instance(1).instanceId });
    expect(found).toBe(true);
    expect(info).toMatchObject({
      ip: '127.1.0.1',
      appId: instance(1).appId,
      baseDomain: 'apps.test',
      port: 443,
      latestHandshake: BigInt(NOW - 10),
    });
    expect((await client.getInfo({ id: 'f'.repeat(40) })).found).toBe(false);
  });

  it('orders a certificate where certificates are ordered, and ends the gateway', async () => {
    const { client, exits } = await lab({ renew: async () => true });
    expect((await client.renewCert({})).renewed).toBe(true);
    await client.exit({});
    await expect.poll(() => exits).toEqual(['exit']);
    await expect((await lab()).client.renewCert({})).rejects.toThrow(/core\.certbot/);
  });

  it('gives nothing without the credential, and counts who tries', async () => {
    const { ask, metrics } = await lab({ token: TOKEN });
    for (const path of ['/', '/metrics', '/prpc/Status', '/prpc/Admin.Exit', '/nothing']) {
      expect((await ask(path)).status, path).toBe(401);
      expect((await ask(path, { authorization: 'Bearer a token of an operato' })).status, path).toBe(401);
      expect((await ask(`${path}?token=${encodeURIComponent(TOKEN)}`)).status, path).toBe(401);
      expect((await ask(path, { 'x-admin-token': TOKEN })).status, path).not.toBe(401);
    }
    expect((await ask('/', { authorization: `Bearer ${TOKEN}` })).status).toBe(200);
    expect(await metrics.text()).toMatch(/dstack_gateway_login_failures_total\{result="wrong"\} 5/);
    for (let i = 0; i < 20; i++) await ask('/', { 'x-admin-token': `guess ${i}` });
    expect((await ask('/', { 'x-admin-token': TOKEN })).status).toBe(429);
  });

  it('does nothing for pages of other sites', async () => {
    const { ask, exits } = await lab();
    for (const headers of [{ origin: 'https://evil.test' }, { 'sec-fetch-site': 'cross-site' }])
      expect((await ask('/prpc/Exit', headers, 'POST')).status).toBe(403);
    expect(exits).toEqual([]);
  });

  it('shows a page on which no text of a guest is markup', () => {
    const hostile = '<script>alert(1)</script>"\'\u202e';
    const fleet = fleetOf([instance(1, { ip: hostile, appId: hostile, instanceId: hostile })]);
    const { body, headers } = dashboardPage(fleet, hostile, NOW);
    expect(body).not.toMatch(/<script|\u202e/);
    expect(headers?.['Content-Security-Policy']).toMatch(/default-src 'none'/);
    const many = Array.from({ length: 3_000 }, (_, n) => instance(n + 1));
    expect(dashboardPage(fleetOf(many), 'apps.test', NOW).body).toMatch(/2000 more are not shown/);
  });

  it('shows counts to collectors, and nothing else', async () => {
    const { ask } = await lab({}, true);
    const { status, body } = await ask('/metrics');
    expect(status).toBe(200);
    expect(body).toMatch(/^dstack_gateway_instances 2$/m);
    expect(body).toMatch(/^dstack_gateway_instances_online 1$/m);
    expect(body).not.toMatch(/dstack_gateway_certificate_end_seconds \d/);
    for (const path of ['/', '/prpc/Status', '/prpc/Exit'])
      expect((await ask(path)).status, path).not.toBe(200);
  });
});

describe('where operators reach the gateway', () => {
  it('is a socket for this user alone, also after a gateway that was killed', async () => {
    expect(place('enabled = true')).toEqual({ address: 'unix', token: '' });
    expect(place('')).toBeUndefined();
    for (let i = 0; i < 2; i++) {
      const { server } = await lab({}, false, false);
      const path = await listenPrivately(server, folder);
      expect(statSync(path).mode & 0o777).toBe(0o600);
    }
  });

  it('is a loopback address with a token', () => {
    expect(place(`enabled = true\naddress = "127.0.0.1:8011"\nauth_token = "${TOKEN}"`)).toEqual({
      address: { host: '127.0.0.1', port: 8011 },
      token: TOKEN,
    });
    expect(place('enabled = true\naddress = "[::1]:1"', { DSTACK_GATEWAY_ADMIN_TOKEN: TOKEN })?.token).toBe(
      TOKEN,
    );
  });

  it.each([
    ['address = "127.0.0.1:8011"', /no auth_token/],
    [`address = "0.0.0.0:8011"\nauth_token = "${TOKEN}"`, /other machines/],
    [`address = "203.0.113.1:8011"\nauth_token = "${TOKEN}"`, /other machines/],
    ['auth_token = "short"', /fewer than 16/],
    ['address = "localhost:1"', /address/],
  ])('is refused with %s', (text, why) => {
    expect(() => place(`enabled = true\n${text}`)).toThrow(why);
  });

  function place(text: string, environment = {}) {
    const config = `tls = { key = "k", certs = "c", mutual = { ca_certs = "a" } }
      [core.proxy]\ncert_chain = "c"\ncert_key = "k"\n[core.admin]\n${text}`;
    return adminPlace(parseConfig(config, 'gateway.toml'), environment);
  }
});

type Overrides = { readonly token?: string; readonly renew?: () => Promise<boolean> };

async function lab(overrides: Overrides = {}, isMetrics = false, isListening = true) {
  const exits: string[] = [];
  const fleet = fleetOf([instance(1), instance(2)]);
  const metrics = createMetrics('1', {
    registered: () => fleet.registered,
    online: () => fleet.online,
    openConnections: () => fleet.openConnections,
    certificateEnd: () => undefined,
  });
  const server = isMetrics
    ? createMetricsServer(metrics)
    : createAdminServer({
        fleet,
        metrics,
        baseDomain: 'apps.test',
        port: 443,
        publicKey: 'key',
        token: '',
        exit: () => exits.push('exit'),
        now: () => NOW,
        onCall: () => undefined,
        ...overrides,
      });
  servers.push(server);
  if (!isListening) return { server, exits, metrics, ask, client: undefined as never };
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = createPrpcClient(
    gateway.Admin,
    httpTransport({ baseUrl: `http://127.0.0.1:${port()}/prpc` }),
  );
  return { server, exits, metrics, ask, client };

  function port(): number {
    return (server.address() as { port: number }).port;
  }

  async function ask(path: string, headers = {}, method = 'GET'): Promise<{ status: number; body: string }> {
    const request = httpRequest({ host: '127.0.0.1', port: port(), path, headers, method, agent: false });
    request.end();
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    let body = '';
    for await (const chunk of response) body += chunk;
    return { status: response.statusCode ?? 0, body };
  }
}

/** The first has a tunnel that is alive. */
function fleetOf(instances: readonly Instance[]): Fleet {
  const table = new RoutingTable();
  for (const one of instances) table.put(one);
  const handshakes = () => new Map([[instances[0]!.publicKey, NOW - 10]]);
  return new Fleet({ table, health: new InstanceHealth(), handshakes, now: () => NOW });
}
