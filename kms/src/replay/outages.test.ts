/** What the original answers while the services around it are down, how it speaks TLS, and what ended its process. */
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { pcsCollateral } from '@dstack-cloud/attestation';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ask } from '../test/ask.ts';
import { type RecordedKms, startRecordedKms } from '../test/recorded-kms.ts';
import { replay } from '../test/replay-item.ts';
import { exchanges, observations } from '../test/replay-plan.ts';

const items = (pattern: RegExp) => exchanges('tls').filter(({ id }) => pattern.test(id));

describeWithFixtures('replay of kms-original/full: outages', 'kms-original/full/tls.json', () => {
  let kms: RecordedKms;
  afterEach(() => kms.close());

  describe('auth API down', () => {
    beforeEach(async () => {
      kms = await startRecordedKms();
      kms.webhook.close();
    });
    test.each(items(/auth-down$/))('$id', (item) =>
      replay(kms, 'tls', item, { port: kms.running.main.port, plain: false }),
    );
  });

  describe('collateral service down', () => {
    beforeEach(async () => {
      const down = pcsCollateral({
        baseUrl: 'http://collateral.invalid',
        fetch: () => Promise.reject(new TypeError('fetch failed')),
      });
      kms = await startRecordedKms({
        trustOf: ({ collateral, ...trust }) => ({
          ...trust,
          // The KMS has looked at itself before; its guests' collateral is what is missing.
          collateral: {
            tdx: (request) => (request.fmspc === '000000000000' ? down : collateral).tdx(request),
          },
        }),
      });
    });
    test.each(items(/collateral-down$/))('$id', (item) =>
      replay(kms, 'tls', item, { port: kms.running.main.port, plain: false }),
    );
  });
});

describeWithFixtures('replay of kms-original/full: TLS and crashes', 'kms-original/full/crash.json', () => {
  let kms: RecordedKms;
  beforeAll(async () => {
    kms = await startRecordedKms();
  });
  afterAll(() => kms.close());

  test.each(exchanges('crash'))('$id', (item) =>
    replay(kms, 'crash', item, { port: kms.running.main.port, plain: false }),
  );

  test('crash/process-alive-after: the original had ended each time, ours answers', async () => {
    expect(observations('crash').map((item) => (item as { alive?: boolean }).alive)).toEqual([
      false,
      false,
      false,
    ]);
    expect((await ask(kms.running.main.port, '/health', { method: 'GET' })).status).toBe(200);
  });

  const open = (options: Record<string, unknown>): Promise<TLSSocket> =>
    new Promise((resolve, reject) => {
      const target = { host: '127.0.0.1', port: kms.running.main.port, rejectUnauthorized: false };
      const socket = connectTls({ ...target, ...options }, () => resolve(socket));
      socket.on('error', reject);
    });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'tls/tls12-resumption, tls/tls13-resumption: %s sessions were resumed there, with the old certificate; never by ours',
    async (version) => {
      const versions = { minVersion: version, maxVersion: version };
      let session: Buffer | undefined;
      const first = await open(versions);
      first.on('session', (ticket: Buffer) => {
        session = ticket;
      });
      const reused = first.isSessionReused();
      first.write('GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
      await new Promise((resolve) => first.resume().on('close', resolve));
      session ??= first.getSession();
      const second = await open({ ...versions, ...(session === undefined ? {} : { session }) });
      expect([reused, second.isSessionReused()]).toEqual([false, false]);
      second.destroy();
    },
  );

  test('tls/openssl: TLS 1.2 and 1.3 with the same suites, nothing older, and the temp CA for clients', async () => {
    await expect(
      open({ minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' }),
    ).rejects.toThrow();
    for (const [version, cipher] of [
      ['TLSv1.2', 'ECDHE-ECDSA-AES256-GCM-SHA384'],
      ['TLSv1.3', 'TLS_AES_256_GCM_SHA384'],
    ] as const) {
      const socket = await open({
        minVersion: version,
        maxVersion: version,
        ALPNProtocols: ['h2', 'http/1.1'],
        ciphers: cipher,
      });
      expect([socket.getProtocol(), socket.getCipher().name]).toEqual([version, cipher]);
      expect(socket.getPeerX509Certificate()?.subject).toBe('CN=kms.lab.test');
      // The original prefers h2 when it is offered; ours speaks HTTP/1.1 alone, which every client of both does.
      expect(socket.alpnProtocol).toBe('http/1.1');
      socket.destroy();
    }
  });

  test('mtls-rpc/idle-close, mtls-rpc/tcp-without-tls-hello', async () => {
    // A connection that says nothing was kept for 40 s there; ours ends it after rpc.tls.handshake_timeout.
    const { config } = kms.running.kms;
    expect(config.rpc.tls.handshake_timeout).toBe(5);
    const answer = await ask(kms.running.main.port, '/health', {
      method: 'GET',
      headers: { connection: 'keep-alive' },
    });
    expect(answer.headers['keep-alive']).toBe('timeout=15');
  });
});
