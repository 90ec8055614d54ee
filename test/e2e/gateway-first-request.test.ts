/** A guest registers at our gateway, its tunnel comes up, and a user reaches its application: the parts as they run in production, the guest's network in a namespace. */
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  APP,
  BASE,
  GATEWAY_PROGRAMS,
  type GatewayLab,
  type Guest,
  getPage,
  sh,
  startGatewayLab,
} from '../harness/gateway-lab.ts';

describeWithPrograms('a guest of the gateway', GATEWAY_PROGRAMS, () => {
  let lab: GatewayLab;
  let guest: Guest;

  beforeAll(async () => {
    lab = await startGatewayLab();
    guest = lab.addGuest(1);
  }, 60_000);
  afterAll(() => lab?.stop());

  it('gateway-first-request: a user reaches the application at the ports that its app-compose opens, after a gateway that is down was asked', async () => {
    const { rpcPort, proxyPort } = lab.gateway();
    const told = await guest.register({ urls: ['https://localhost:1', `https://localhost:${rpcPort}`] });
    await expect.poll(() => guest.address(), { timeout: 20_000 }).toBe('10.235.0.2');
    await guest.runApp({ NAME: 'one' });
    const get = (name: string): Promise<string> =>
      getPage(proxyPort, `${name}.${BASE}`, { ca: lab.kms.root });
    await expect
      .poll(async () => await get(`${APP}-8080`).catch((error: Error) => error.message), { timeout: 30_000 })
      .toBe('page of one');
    await expect(get(`${guest.instanceId}-9090`)).rejects.toThrow();
    expect(told).toEqual([]);
    // Strangers' packets never reach the interface.
    const allowed = sh(`ip netns exec ${guest.namespace} iptables -S DSTACK_WG`).split('\n');
    expect(allowed).toEqual([
      '-N DSTACK_WG',
      expect.stringMatching(/^-A DSTACK_WG -s 10\.\d+\.0\.1\/32 -j ACCEPT$/),
      '-A DSTACK_WG -j DROP',
    ]);
  }, 90_000);

  it('gateway-of-another-app: another application is no gateway, and the machine goes on without a route', async () => {
    const told = await lab.addGuest(2).register({ gatewayAppId: 'dd'.repeat(20) });
    await expect.poll(() => told, { timeout: 20_000 }).toHaveLength(1);
    expect(told[0]).toMatch(
      /^boot.error no route by a gateway yet: .*not the gateway that the key service names/,
    );
    const [nameless] = await lab.addGuest(3).register({ gatewayAppId: '' });
    expect(nameless).toMatch(/^boot.error no route by a gateway: Missing allowed dstack-gateway app id/);
    const [alone] = await lab.addGuest(4).register({ urls: [] });
    expect(alone).toMatch(/Missing gateway urls/);
  }, 60_000);
});
