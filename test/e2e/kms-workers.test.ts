/** A service of several processes: the same answers, records and limits as of one, whichever process ends when. */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:tls';
import { verifyLog } from '@dstack-cloud/audit-log';
import { createPlatform } from '@dstack-cloud/tee-simulator';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { callKms, errorOf, getPlain } from '../harness/call-kms.ts';
import { auditHead, getAppKey, type KmsLab, metricOf, metricsText, startKmsLab } from '../harness/kms-lab.ts';
import {
  askAll,
  callsByWorker,
  countIn,
  expectRecorded,
  makeClients,
  workersOf,
} from '../harness/kms-load.ts';
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

describe('workers', () => {
  test('workers-share-load: both serve; metrics, readiness and audit log are those of the service', async () => {
    const host = await lab.host('shared', {
      ...TWO,
      core: { admin: { enabled: true, port: 0, auth_token: 'token' } },
    });
    const kms = await host.serve();
    for (const pid of workersOf(kms).values()) {
      expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')).toContain('--single-threaded-gc');
    }
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
    const allShown = async () => new Set(await Promise.all(Array.from({ length: 12 }, shown)));
    // The workers hear of it a moment later, each for itself.
    const later = await vi.waitUntil(
      async () => {
        const certificates = await allShown();
        return !certificates.has(first) && certificates;
      },
      { timeout: 20_000, interval: 50 },
    );
    expect(later.size).toBe(1);
    // A worker that begins now has it too.
    process.kill(workersOf(kms).get(2)!, 'SIGKILL');
    await until(() => kms.lines().filter(({ msg }) => msg === 'worker serves').length === 3);
    expect(await allShown()).toEqual(later);
    await kms.stop();
  }, 60_000);
});
