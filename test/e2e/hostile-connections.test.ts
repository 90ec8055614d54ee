/** Strangers at every listener of every service, with the limits that these have by default. */
import { readdirSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type EntryPoint, type EntryPoints, startEntryPoints } from '../harness/hostile/entry-points.ts';
import { csrOfManyKeys, memoryOf, packedIdentity } from '../harness/hostile/hostile-inputs.ts';
import { answers, head, isHeld, open, type Raw } from '../harness/hostile/raw-client.ts';
import type { WatchedProgram } from '../harness/hostile/watched-program.ts';
import { labWorkload, tempCa } from '../harness/kms-lab.ts';
import { ALLOW, deny } from '../harness/policy-webhook.ts';
import { clientIdentity } from '../harness/simulated-workload.ts';

describeWithFixtures('strangers', 'simulator/attestation.bin', () => {
  let points: EntryPoints;
  beforeAll(async () => {
    points = await startEntryPoints();
  }, 180_000);
  afterAll(async () => points?.stop());

  /** Ways to hold a connection without ever asking for anything whole, or without taking the answer. */
  const HOLDING: Readonly<Record<string, (point: EntryPoint, socket: Socket) => void>> = {
    'says nothing': () => undefined,
    'stops in the headers': (_, socket) => socket.write('GET / HTTP/1.1\r\nHost: x\r\nA: '),
    'stops in the body': (point, socket) =>
      socket.write(`${head('POST', point.post, { 'Content-Length': 1000, ...credential(point) })}{`),
    'sends a body of chunks and stops': (point, socket) =>
      socket.write(
        `${head('POST', point.post, { 'Transfer-Encoding': 'chunked', ...credential(point) })}1\r\n{\r\n`,
      ),
    'asks once and stays': (point, socket) => socket.write(head('GET', point.page, credential(point))),
    'does not read': (point, socket) => {
      socket.pause();
      socket.write(head('GET', point.page, credential(point)).repeat(6));
    },
  };

  const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

  /** Waits until a program has nothing to do with what was before. */
  async function calm(program: WatchedProgram): Promise<void> {
    const quiet = () => program.peakSince(Date.now() - 300).loopMs < 50;
    await expect
      .poll(quiet, { timeout: 10_000, interval: 100 })
      .toBe(true)
      .catch(() => undefined);
  }

  function credential({ authorization }: EntryPoint): Record<string, string> {
    return authorization === undefined ? {} : { Authorization: authorization };
  }

  describe('nobody-kept-forever', () => {
    /** Headers have 10 s, an unread answer 20, a kept connection 15 (the auth API's 60), a handshake 5; looked for every 2. */
    const LONGEST_MS = 35_000;

    test('nobody-kept-forever: who says nothing, stops in the middle, does not read or only stays is let go, at every listener', async () => {
      const kept = await Promise.all(
        points.all.flatMap((point) =>
          Object.entries(HOLDING).map(async ([how, hold], index) => {
            const name = `${point.name}: ${how}`;
            // Each from an address of its own: none pays for another.
            const socket = await open(point, { from: `127.0.2.${index + 1}` });
            hold(point, socket);
            return { name, point, socket };
          }),
        ),
      );
      // Without a ClientHello, where there is TLS.
      const main = points.of('KMS');
      kept.push({ name: 'KMS: no handshake', point: main, socket: await open(main, { isPlain: true }) });
      const since = Date.now();
      const held = () =>
        kept.filter(({ point, socket }) => isHeld(point, socket.port)).map(({ name }) => name);
      expect(held().length).toBeGreaterThan(kept.length - 6);
      // A key service keeps its connections to it for a minute.
      const allowed = ['auth API: asks once and stays', 'auth API: does not read'];
      await expect
        .poll(() => held().filter((name) => !allowed.includes(name)), { timeout: LONGEST_MS, interval: 500 })
        .toEqual([]);
      expect(Date.now() - since).toBeGreaterThan(3_000);
      for (const { socket } of kept) socket.destroy();
    }, 60_000);
  });

  describe('nothing-before-a-limit', () => {
    const SILENT = 1_024;
    /** Reading a megabyte takes some tens of milliseconds where others compute too; what is refused here took seconds. */
    const HELD_UP_MS = 150;

    test('nothing-before-a-limit: a thousand silent connections of one address leave every listener to others', async () => {
      const sockets: Socket[] = [];
      for (const point of points.all) {
        for (let index = 0; index < SILENT; index++) {
          const socket = connect({ host: '127.0.0.1', port: point.port, localAddress: '127.0.3.1' });
          socket.on('error', () => undefined);
          sockets.push(socket);
        }
        for (let turn = 0; turn < 5; turn++) {
          const other = await open(point, { from: '127.0.3.2' });
          other.write(head('GET', point.page, credential(point)));
          await expect.poll(() => answers(other.text(), 200)).toBe(1);
          other.destroy();
        }
      }
      for (const socket of sockets) socket.destroy();
    }, 60_000);

    test('nothing-before-a-limit: certificates that unpack to megabytes take no more than their bytes', async () => {
      const kms = points.of('KMS');
      const identity = await packedIdentity();
      const before = memoryOf(kms.program);
      const held: Raw[] = [];
      const CONNECTIONS = 700;
      for (let batch = 0; batch < CONNECTIONS; batch += 20) {
        const more = Array.from({ length: 20 }, (_, index) =>
          open(kms, { identity, from: `127.0.4.${1 + (index % 10)}` }).catch(() => undefined),
        );
        for (const socket of await Promise.all(more)) if (socket !== undefined) held.push(socket);
      }
      expect(held.length).toBeGreaterThan(CONNECTIONS / 2);
      const perConnection = (memoryOf(kms.program) - before) / held.length;
      // What TLS takes for a connection, and no parsed event log, which has two megabytes.
      expect(perConnection).toBeLessThan(300_000);
      for (const socket of held) socket.destroy();
    }, 60_000);

    test('nothing-before-a-limit: a megabyte of MessagePack keys, of brackets, of fields or of line ends holds nobody up', async () => {
      const kms = points.of('KMS');
      const bodies: [path: string, body: Uint8Array | string, error: RegExp][] = [
        ['/prpc/SignCert?json', csrOfManyKeys(), /Failed to parse csr: .*too many keys/],
        ['/prpc/SignCert?json', `{"csr":${'['.repeat(1_000_000)}`, /recursion limit/],
        ['/prpc/SignCert?json', `{"csr":[${'[],'.repeat(1_000_000)}1]}`, /too many values/],
        ['/prpc/SignCert?json', `{${'"a":0,'.repeat(600_000)}"b":0}`, /too many unknown fields/],
        ['/prpc/SignCert?json', `${'\n'.repeat(3_900_000)}x`, /expected value at line 3900001/],
        [
          '/prpc/SignCert',
          new Uint8Array(1_000_000).fill(0x78).map((_, i) => (i % 2 ? 1 : 0x78)),
          /too many fields/,
        ],
        ['/prpc/GetAppKey?json', 'x'.repeat(10_000_000), /payload too large/],
        ['/prpc/GetMeta?json', ' '.repeat(10_000_000), /payload too large/],
      ];
      for (const [index, [path, body, error]] of bodies.entries()) {
        const heldUp: number[] = [];
        // The machine's own hiccups are told from ours by doing it again.
        for (let turn = 0; turn < 4 && (heldUp.at(-1) ?? Number.POSITIVE_INFINITY) > HELD_UP_MS; turn++) {
          await calm(kms.program);
          const at = Date.now();
          // A refused megabyte costs as much as sixteen connections.
          const socket = await open(kms, { from: `127.0.${40 + turn}.${index + 1}` });
          socket.write(head('POST', path, { 'Content-Length': body.length }));
          socket.write(body);
          await expect.poll(() => socket.text(), { timeout: 10_000 }).toMatch(error);
          socket.destroy();
          await pause(250);
          heldUp.push(kms.program.peakSince(at).loopMs);
        }
        expect(heldUp.at(-1), `${path} ${error}: ${heldUp}`).toBeLessThanOrEqual(HELD_UP_MS);
      }
    }, 90_000);
  });

  describe('bounded-output', () => {
    /** What the log may grow by in the ten seconds for which a flood lasts: fifty lines of each of a dozen messages. */
    const LOG_BYTES = 200_000;

    test('bounded-output: floods of refusals, failed logins and broken handshakes write a bounded log, and all are counted', async () => {
      const kms = points.of('KMS');
      const [admin, onboarding] = [points.of('KMS admin'), points.of('KMS onboarding')];
      const before = [kms, onboarding].map(({ program }) => program.logBytes());
      const refusedBefore = await refused();
      const until = Date.now() + 10_000;
      let sent = 0;
      const flood = async (point: EntryPoint, from: string, request: () => string): Promise<void> => {
        while (Date.now() < until) {
          const socket = await open(point, { from }).catch(() => undefined);
          if (socket === undefined) await pause(20);
          for (let turn = 0; turn < 5 && socket !== undefined && !socket.destroyed; turn++) {
            socket.write(request());
            sent += 1;
            await pause(5);
          }
          socket?.destroy();
        }
      };
      let number = 0;
      const kinds: [EntryPoint, () => string][] = [
        [kms, () => head('POST', `/prpc/Nope${++number}?json`, { 'Content-Length': 0 })],
        [kms, () => `${head('POST', '/prpc/GetAppKey?json', { 'Content-Length': 2 })}{}`],
        [
          kms,
          () =>
            `${head('POST', '/prpc/GetAppEnvEncryptPubKey?json', { 'Content-Length': 9 })}{"a":${++number % 900}x`.padEnd(
              9,
            ),
        ],
        [admin, () => head('GET', '/prpc/openapi.json', { Authorization: `Bearer ${++number}` })],
        [
          onboarding,
          () =>
            head('POST', '/prpc/Onboard.Finish', {
              Authorization: `Bearer ${++number}`,
              'Content-Length': 0,
            }),
        ],
        [{ ...kms, isTls: false }, () => 'this is no handshake'],
      ];
      await Promise.all(
        kinds.flatMap(([point, request], kind) =>
          [1, 2, 3, 4].map((address) => flood(point, `127.0.${6 + kind}.${address}`, request)),
        ),
      );
      expect(sent).toBeGreaterThan(1_000);
      const grown = [kms, onboarding].map(({ program }, index) => program.logBytes() - before[index]!);
      expect(Math.max(...grown)).toBeLessThan(LOG_BYTES);
      await kms.program.until(/"msg":"log lines held back"/);
      await onboarding.program.until(/"msg":"login failed"/);
      expect((await refused()) - refusedBefore).toBeGreaterThan(100);
    }, 60_000);

    test('bounded-output: what the policy denies to evidence of all kinds is on record in bounded bytes', async () => {
      const { lab, host } = points;
      const kms = points.of('KMS');
      const audit = join(host.certDir, 'audit');
      const size = () => readdirSync(audit).reduce((sum, name) => sum + statSync(join(audit, name)).size, 0);
      const before = size();
      lab.webhook.app = () => deny('Compose hash not allowed '.padEnd(400, 'x'));
      try {
        const ca = await tempCa({ url: `https://127.0.0.1:${kms.port}` });
        let denied = 0;
        for (let index = 0; index < 200; index++) {
          const workload = labWorkload(`denied-${index}`);
          const identity = await clientIdentity({ platform: lab.hardware, workload, ...ca });
          const socket = await open(kms, { identity, from: `127.0.20.${1 + (index % 100)}` });
          socket.write(`${head('POST', '/prpc/GetAppKey?json', { 'Content-Length': 17 })}{"api_version":1}`);
          await expect.poll(() => answers(socket.text(), 400), { timeout: 10_000 }).toBe(1);
          denied += 1;
          socket.destroy();
        }
        expect(denied).toBe(200);
        // At most 128 kinds at a time have a record of their own.
        expect(size() - before).toBeLessThan(129 * 1_500);
        expect(size()).toBeGreaterThan(before);
      } finally {
        lab.webhook.app = () => ALLOW;
      }
    }, 60_000);
  });

  async function refused(): Promise<number> {
    const socket = await open(points.of('KMS'), { from: '127.0.30.1' });
    socket.write(head('GET', '/metrics', { Connection: 'close' }));
    await expect.poll(() => socket.closed, { timeout: 10_000 }).toBe(true);
    const counts = [...socket.text().matchAll(/^dstack_kms_refused_total\{step="\w+"\} (\d+)$/gm)];
    expect(counts.length).toBeGreaterThan(10);
    return counts.reduce((sum, [, count]) => sum + Number(count), 0);
  }
});
