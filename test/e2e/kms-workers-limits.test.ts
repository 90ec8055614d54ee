/** Bounds of a service of several processes: whichever of them is reached, they are those of the service. */
import { Agent, get } from 'node:https';
import { connect as connectTcp, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import {
  getAppKey,
  type KmsLab,
  labWorkload,
  metricOf,
  metricsText,
  startKmsLab,
} from '../harness/kms-lab.ts';
import { callsByWorker, countIn, releasesIn } from '../harness/kms-load.ts';

const TWO = { rpc: { workers: 2 } };
const SETTLE_MS = 500;

let lab: KmsLab;
beforeAll(async () => {
  lab = await startKmsLab();
}, 120_000);
afterAll(async () => lab?.stop());

const until = (condition: () => boolean) =>
  vi.waitFor(() => expect(condition()).toBe(true), { timeout: 20_000, interval: 20 });

describe('limits of a service of several processes', () => {
  const limited = (limits: object) => ({
    ...TWO,
    core: {
      rate_limit: {
        enabled: true,
        open_per_minute: 10_000,
        open_burst: 10_000,
        // All of it comes from one address.
        network_cost_per_minute: 100_000,
        network_cost_burst: 100_000,
        ...limits,
      },
    },
  });

  test('connections-per-address: who holds all that one address may have leaves the rest to others', async () => {
    const host = await lab.host('per-address', {
      rpc: { workers: 2, tls: { max_connections_per_address: 8, handshake_timeout: '1m' } },
    });
    const kms = await host.serve();
    const port = Number(new URL(kms.url).port);
    const idle: Socket[] = [];
    const open = () => idle.filter(({ closed }) => !closed).length;
    // Connections go round, but not evenly when a worker is slow: until both have no room.
    for (let round = 0; round < 20 && (round === 0 || open() < 8); round++) {
      const more = Array.from({ length: 16 }, () => connectTcp({ host: '127.0.0.1', port }));
      for (const socket of more) socket.on('error', () => undefined);
      idle.push(...more);
      await until(() => open() <= 8);
      // One that nobody has looked at yet may still be closed.
      await sleep(SETTLE_MS);
    }
    expect(open()).toBe(8);
    const readyFrom = (localAddress: string) =>
      new Promise<number | string>((resolve) => {
        const agent = new Agent({ rejectUnauthorized: false, localAddress });
        get(`${kms.url}/ready`, { agent }, (response) => {
          response.resume().once('end', () => agent.destroy());
          resolve(response.statusCode ?? 0);
        }).once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
      });
    expect(await readyFrom('127.0.0.1')).toMatch(/ECONNRESET|EPIPE/);
    expect(await readyFrom('127.0.0.2')).toBe(200);
    expect(open()).toBe(8);
    for (const socket of idle) socket.destroy();
    await vi.waitFor(async () => expect(await readyFrom('127.0.0.1')).toBe(200), 5_000);
    const turnedAway = 'dstack_kms_tls_handshakes_total{result="turned-away"}';
    expect(countIn(await metricsText(kms), turnedAway)).toBeGreaterThanOrEqual(9);
    expect(await kms.stop()).toBe(0);
  }, 60_000);

  test('rate-limit-shared: requests to both count together', async () => {
    const host = await lab.host('limited', limited({ attested_per_minute: 1, attested_burst: 10 }));
    const kms = await host.serve();
    const identity = await lab.identity(kms, labWorkload('eager'));
    const statuses: number[] = [];
    for (let call = 0; call < 24; call++) statuses.push((await getAppKey(kms, identity)).status);
    expect(statuses.slice(0, 10)).toEqual(statuses.slice(0, 10).map(() => 200));
    // A token a minute may have come meanwhile.
    expect(statuses.filter((status) => status === 200).length).toBeLessThanOrEqual(11);
    const other = await lab.identity(kms, labWorkload('very eager'));
    const atOnce = await Promise.all(Array.from({ length: 60 }, () => getAppKey(kms, other)));
    const through = atOnce.filter(({ status }) => status === 200).length;
    // At most what each would let through alone; what was too much is owed.
    expect(through).toBeGreaterThanOrEqual(10);
    expect(through).toBeLessThanOrEqual(20);
    for (let call = 0; call < 6; call++) expect((await getAppKey(kms, other)).status).toBe(429);
    expect(await metricOf(kms, 'dstack_kms_rate_limited_total')).toBeGreaterThanOrEqual(13 + 40 + 6);
    await kms.stop();
    expect(Math.min(...callsByWorker(kms, 429))).toBeGreaterThan(0);
    expect([...releasesIn(host).values()].reduce((sum, count) => sum + count, 0)).toBe(
      statuses.filter((status) => status === 200).length + through,
    );
  }, 60_000);

  test('refused-evidence-shared: an address that shows forged evidence is shut out by all', async () => {
    const limits = limited({ refused_evidence_per_minute: 1, refused_evidence_burst: 6 });
    const kms = await (await lab.host('forged', limits)).serve();
    const forged = await lab.identity(kms, labWorkload('forged'), {
      quote: (quote) => quote.map((byte, index) => (index === 200 ? byte ^ 1 : byte)),
    });
    const outcomes: (number | 'closed')[] = [];
    for (let call = 0; call < 16; call++) {
      outcomes.push(
        await getAppKey(kms, forged).then(
          ({ status }) => status,
          () => 'closed' as const,
        ),
      );
    }
    expect(outcomes.filter((outcome) => outcome === 400).length).toBeLessThanOrEqual(7);
    expect(outcomes.slice(-8)).toEqual(Array.from({ length: 8 }, () => 'closed'));
    await kms.stop();
  }, 60_000);
});
