/** A service of several processes: the same answers, records and limits as of one, whichever process ends when. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { Agent, get } from 'node:https';
import { connect as connectTcp, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:tls';
import { verifyLog } from '@dstack-cloud/audit-log';
import { createPlatform } from '@dstack-cloud/tee-simulator';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { callKms, errorOf, getPlain } from '../harness/call-kms.ts';
import {
  auditHead,
  getAppKey,
  type KmsLab,
  labWorkload,
  metricOf,
  metricsText,
  startKmsLab,
} from '../harness/kms-lab.ts';
import { askAll, expectRecorded, makeClients, releasesIn, workersOf } from '../harness/kms-load.ts';
import type { KmsProcess } from '../harness/kms-process.ts';
import { ALLOW } from '../harness/policy-webhook.ts';
import { processesIn } from '../harness/run-command.ts';

const TWO = { rpc: { workers: 2 } };
const RELEASED = 'dstack_kms_key_dispatch_total{result="released"}';
const HANDSHAKES = 'dstack_kms_tls_handshakes_total{result="accepted"}';

let lab: KmsLab;
beforeAll(async () => {
  lab = await startKmsLab();
}, 120_000);
afterAll(async () => lab?.stop());

// Starting a process takes seconds on a busy machine.
const until = (condition: () => boolean, timeout = 20_000) =>
  vi.waitFor(() => expect(condition()).toBe(true), { timeout, interval: 20 });

/** How many calls each worker answered with a status. */
function callsByWorker(kms: KmsProcess, status: number): number[] {
  const calls = kms.lines().filter((line) => line['method'] === 'GetAppKey' && line['status'] === status);
  return [1, 2].map((number) => calls.filter(({ worker }) => worker === number).length);
}

const countIn = (text: string, series: string) =>
  Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${series} `))
      ?.slice(series.length + 1) ?? 0,
  );

describe('workers', () => {
  test('workers-share-load: both serve; metrics, readiness and audit log are those of the service', async () => {
    const host = await lab.host('shared', {
      ...TWO,
      core: { admin: { enabled: true, port: 0, auth_token: 'token' } },
    });
    const kms = await host.serve();
    const clients = await makeClients(lab, kms, 40);
    const outcomes = await askAll(kms, clients);
    expect(outcomes.map(({ status }) => status)).toEqual(clients.map(() => 200));
    expectRecorded(host, outcomes);
    for (let scrape = 0; scrape < 4; scrape++) {
      const text = await metricsText(kms);
      expect(countIn(text, RELEASED)).toBe(40);
      expect(countIn(text, 'dstack_kms_audit_records_total{result="written"}')).toBe(40);
      expect(countIn(text, 'dstack_kms_workers')).toBe(2);
      expect(countIn(text, 'dstack_kms_rpc_cert_expiry_timestamp_seconds')).toBeGreaterThan(
        Date.now() / 1000,
      );
    }
    const ready = await getPlain(kms.url, '/ready');
    expect(ready.status).toBe(200);
    expect(JSON.parse(ready.body)).toMatchObject({ ready: true, workers: { configured: 2, serving: 2 } });
    const page = await fetch(`${kms.adminUrl}/prpc/Admin.GetAuditLog?json`, {
      method: 'POST',
      headers: { authorization: 'Bearer token' },
      body: JSON.stringify({ limit: 1000 }),
    });
    expect(((await page.json()) as { records: string[] }).records).toHaveLength(40);
    const proof = await callKms(kms.url, 'GetAuditInclusion', { seq: 3 });
    expect((JSON.parse(proof.body) as { hashes: string[] }).hashes.length).toBeGreaterThan(0);
    expect(errorOf(await callKms(kms.url, 'GetAuditInclusion', { seq: 4000 }))).toMatch(/4000/);
    expect(await kms.stop()).toBe(0);
    expect(Math.min(...callsByWorker(kms, 200))).toBeGreaterThanOrEqual(5);
  }, 60_000);

  test('worker-killed: the others go on, it is replaced, and nothing is released without its record', async () => {
    const host = await lab.host('worker-killed', TWO);
    const kms = await host.serve();
    const clients = await makeClients(lab, kms, 120);
    const before = countIn(await metricsText(kms), HANDSHAKES);
    let killedAt = 0;
    const outcomes = await askAll(kms, clients, (answered) => {
      if (answered < 30 || killedAt > 0) return;
      killedAt = performance.now();
      process.kill(workersOf(kms).get(1)!, 'SIGKILL');
    });
    expectRecorded(host, outcomes);
    const broken = outcomes.filter(({ status }) => status === 'broken');
    expect(outcomes.length - broken.length).toBe(outcomes.filter(({ status }) => status === 200).length);
    // Those that it had, and the one that was on its way to it: they hear at once, not when they give up.
    expect(broken.length).toBeLessThanOrEqual(17);
    for (const { atMs } of broken) expect(atMs - killedAt).toBeLessThan(5_000);
    await until(() => kms.lines().filter(({ msg }) => msg === 'worker serves').length === 3);
    expect(await metricOf(kms, 'dstack_kms_worker_restarts_total')).toBe(1);
    // What the one that ended had counted when it was last asked stays in the sum.
    expect(countIn(await metricsText(kms), HANDSHAKES)).toBeGreaterThan(before);
    const again = await askAll(kms, await makeClients(lab, kms, 20));
    expect(again.map(({ status }) => status)).toEqual(again.map(() => 200));
    expect(await kms.stop()).toBe(0);
  }, 60_000);

  test('trust-root-changed: a worker that starts again believes what the service believed at its start', async () => {
    const file = join(lab.directory, 'changing-root.der');
    writeFileSync(file, lab.hardware.rootDer);
    const host = await lab.host('trust-root-changed', {
      ...TWO,
      core: { attestation: { root_ca: { tdx: file } } },
    });
    const kms = await host.serve();
    writeFileSync(file, createPlatform(randomBytes(32)).rootDer);
    for (const pid of workersOf(kms).values()) process.kill(pid, 'SIGKILL');
    await until(() => kms.lines().filter(({ msg }) => msg === 'worker serves').length === 4);
    const outcomes = await askAll(kms, await makeClients(lab, kms, 40));
    expect(outcomes.map(({ status }) => status)).toEqual(outcomes.map(() => 200));
    expect(await kms.stop()).toBe(0);
    expect(Math.min(...callsByWorker(kms, 200))).toBeGreaterThan(0);
  }, 60_000);

  test('primary-killed: the workers end at once, release nothing more, and leave the port', async () => {
    const host = await lab.host('primary-killed', TWO);
    const kms = await host.serve();
    const clients = await makeClients(lab, kms, 150);
    const head = await auditHead(kms);
    const port = Number(new URL(kms.url).port);
    const outcomes = await askAll(kms, clients, (answered) => {
      if (answered === 40) kms.process.kill('SIGKILL');
    });
    const released = outcomes.filter(({ status }) => status === 200).length;
    expect(released).toBeGreaterThanOrEqual(40);
    expect(released).toBeLessThan(150);
    expectRecorded(host, outcomes);
    await until(() => processesIn(host.directory).length === 0, 2_000);
    const listener = createServer().listen(port, '127.0.0.1');
    await new Promise((resolve, reject) => listener.once('listening', resolve).once('error', reject));
    await new Promise((resolve) => listener.close(resolve));
    const again = await host.serve();
    expect((await getAppKey(again, clients[0])).status).toBe(200);
    expect(await again.stop()).toBe(0);
    await verifyLog(join(host.certDir, 'audit'), head.publicKey, [head.signed]);
  }, 60_000);

  test('stop-under-load: what was begun is answered and recorded, within five seconds', async () => {
    const host = await lab.host('stopped', TWO);
    const kms = await host.serve();
    const clients = await makeClients(lab, kms, 24);
    let begun = 0;
    lab.webhook.app = async () => {
      begun += 1;
      await sleep(700);
      return ALLOW;
    };
    try {
      const answers = askAll(kms, clients, undefined, clients.length);
      await until(() => begun === clients.length);
      const since = performance.now();
      // As a terminal or a supervisor does: to all processes of the group.
      for (const pid of workersOf(kms).values()) process.kill(pid, 'SIGTERM');
      expect(await kms.stop()).toBe(0);
      expect(performance.now() - since).toBeLessThan(5_000);
      const outcomes = await answers;
      expect(outcomes.map(({ status }) => status)).toEqual(clients.map(() => 200));
      expectRecorded(host, outcomes);
      expect(kms.lines().at(-1)?.msg).toBe('dstack-kms stopped');
    } finally {
      lab.webhook.app = () => ALLOW;
    }
    expect(processesIn(host.directory)).toEqual([]);
  }, 60_000);

  test('crash-loop: workers that end again and again end the program, which says so', async () => {
    const host = await lab.host('crash-loop', TWO);
    const kms = host.run();
    await kms.until('dstack-kms started');
    let killed = 0;
    const ended = kms.ended();
    while (kms.process.exitCode === null && killed < 20) {
      const pid = workersOf(kms).get(1)!;
      try {
        process.kill(pid, 'SIGKILL');
        killed += 1;
      } catch {
        // It is being started again.
      }
      await sleep(20);
    }
    expect(await ended).toBe(1);
    expect(kms.output()).toMatch(/Worker 1 ends again and again/);
    await until(() => processesIn(host.directory).length === 0);
  }, 60_000);

  test('port-taken: the start fails with the reason, and leaves no process', async () => {
    const listener = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => listener.once('listening', resolve));
    const { port } = listener.address() as { port: number };
    const host = await lab.host('port-taken', { rpc: { workers: 2, port } });
    const kms = host.run();
    expect(await kms.ended()).toBe(1);
    expect(kms.output()).toContain(`Cannot listen on 127.0.0.1 port ${port}: the port is in use`);
    expect(processesIn(host.directory)).toEqual([]);
    listener.close();
  }, 60_000);
});

describe('limits of a service of several processes', () => {
  const limited = (limits: object) => ({
    ...TWO,
    core: { rate_limit: { enabled: true, open_per_minute: 10_000, open_burst: 10_000, ...limits } },
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

  test('certificate-reload: new connections to both get the new certificate', async () => {
    const kms = await (await lab.host('reloaded', TWO)).serve();
    const shown = () =>
      new Promise<string>((resolve, reject) => {
        const socket = connect({
          port: Number(new URL(kms.url).port),
          host: '127.0.0.1',
          rejectUnauthorized: false,
        });
        socket.once('error', reject);
        socket.once('secureConnect', () => {
          resolve(socket.getPeerCertificate().fingerprint256);
          socket.destroy();
        });
      });
    const first = await shown();
    kms.process.kill('SIGHUP');
    await kms.until('RPC certificate renewed');
    await sleep(100);
    const later = await Promise.all(Array.from({ length: 12 }, shown));
    expect(new Set(later).size).toBe(1);
    expect(later[0]).not.toBe(first);
    // A worker that begins now has it too.
    process.kill(workersOf(kms).get(2)!, 'SIGKILL');
    await until(() => kms.lines().filter(({ msg }) => msg === 'worker serves').length === 3);
    expect(new Set(await Promise.all(Array.from({ length: 12 }, shown)))).toEqual(new Set([later[0]]));
    await kms.stop();
  }, 60_000);
});
