import { once } from 'node:events';
import { connect as netConnect } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import { AttestationError, encodeAttestation, stripForCertificate } from '@dstack-cloud/attestation';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { afterEach, describe, expect, it } from 'vitest';
import { certificatePem, issueCertificate } from '../certificate/issue-certificate.ts';
import { RaTlsError } from '../errors.ts';
import { attestationFor, bindingOnly, now, testKms, verdict } from '../testing/samples.ts';
import { agentFor, closeAll, get, identity, type Running, startServer } from '../testing/servers.ts';
import { type PeerVerifier, peerOf } from './peer.ts';
import { reloadCertificate } from './server.ts';

afterEach(closeAll);

describe('clients of the server', () => {
  it.each([
    ['none', undefined, '200 anonymous', 'none'],
    ['temp', 'temp', '200 attested', 'chained'],
    ['temp CA without evidence', 'temp-no-evidence', '200 anonymous', 'chained'],
    ['self-signed with evidence', 'self-attested', '200 attested', 'attested'],
    ['issued by the root, with evidence', 'root-attested', '200 attested', 'attested'],
    ['evidence for another key', 'other-key', '400 report data mismatch', 'chained'],
  ] as const)('%s', async (_, kind, answer, certificate) => {
    const running = await startServer();
    expect(await get(running.port, agentFor(running, kind && identity(running.kms, kind)))).toBe(answer);
    expect(running.events).toEqual([{ outcome: 'accepted', certificate, remoteAddress: '127.0.0.1' }]);
  });

  it.each([
    ['self', /unverified peer/],
    ['expired', /not in force/],
  ] as const)('%s is cut off', async (kind, reason) => {
    const running = await startServer();
    await expect(get(running.port, agentFor(running, identity(running.kms, kind)))).rejects.toThrow();
    expect(running.events[0]?.outcome).toBe('refused');
    expect(running.events[0]?.reason).toMatch(reason);
  });

  it('a certificate that cannot be read gets no answer but an error', async () => {
    const running = await startServer();
    const key = generateP256Key();
    const bad = issueCertificate({
      subject: { commonName: 'x' },
      spki: key.spki,
      issuer: running.kms.temp,
      notAfter: now + 3600,
      appId: new Uint8Array(20),
      usage: 'x'.repeat(300),
    });
    const answer = await get(
      running.port,
      agentFor(running, { cert: certificatePem(bad), key: p256KeyPem(key) }),
    );
    expect(answer).toBe('400 The usage extension is too long');
  });

  it('the client CA is the only one that is named', async () => {
    const running = await startServer();
    const { ca: _, ...withoutCa } = {
      ca: 1,
      key: p256KeyPem(running.kms.rpcKey),
      certChain: running.kms.rpcPem,
    };
    reloadCertificate(running.server, withoutCa);
    expect(await get(running.port, agentFor(running, identity(running.kms, 'temp')))).toBe('200 attested');
    expect(running.events[0]?.certificate).toBe('attested');
    await expect(
      get(running.port, agentFor(running, identity(running.kms, 'temp-no-evidence'))),
    ).rejects.toThrow();
  });
});

describe('verdicts', () => {
  it('of requests at the same time are made once, and asked for again by the next', async () => {
    let calls = 0;
    let release = (): void => undefined;
    const held: PeerVerifier = () => {
      calls++;
      return new Promise((resolve) => {
        release = () => resolve(verdict());
      });
    };
    const running = await startServer(held);
    const { cert, key } = identity(running.kms, 'temp')!;
    const socket = connect({ host: '127.0.0.1', port: running.port, rejectUnauthorized: false, cert, key });
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    const answers = () => text.split('attested').length - 1;
    const one = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
    socket.write(one + one);
    await expect.poll(() => calls).toBe(1);
    release();
    await expect.poll(answers).toBe(2);
    socket.write(one);
    await expect.poll(() => calls).toBe(2);
    release();
    await expect.poll(answers).toBe(3);
    socket.destroy();
  });

  it('evidence is weighed, not read, until somebody asks for it', async () => {
    const running = await startServer();
    const seen: number[] = [];
    running.server.prependListener('request', (request) => {
      seen.push(peerOf(request).certificate?.evidenceBytes ?? -1);
    });
    for (const kind of ['temp', 'temp-no-evidence', undefined] as const) {
      await get(running.port, agentFor(running, kind && identity(running.kms, kind)));
    }
    const inCertificate = encodeAttestation(stripForCertificate(attestationFor(generateP256Key()))).length;
    // An OCTET STRING of less than 128 bytes has two of its own.
    expect(seen).toEqual([inCertificate + 2, 0, -1]);
  });

  it('a refusal is kept, a want of collateral is not', async () => {
    let calls = 0;
    const refusals = [
      new RaTlsError('attestation-refused', 'no collateral', {
        cause: new AttestationError('collateral-unavailable', 'down'),
      }),
      new RaTlsError('attestation-refused', 'bad quote'),
    ];
    const running = await startServer(() => Promise.reject(refusals[Math.min(calls++, 1)]!));
    const agent = agentFor(running, identity(running.kms, 'temp'));
    const answers: string[] = [];
    for (let i = 0; i < 4; i++) answers.push(await get(running.port, agent));
    expect(answers).toEqual(['400 no collateral', '400 bad quote', '400 bad quote', '400 bad quote']);
    expect(calls).toBe(2);
  });
});

interface RawSession {
  readonly reused: boolean;
  readonly session: Buffer | undefined;
}

/** One request on a raw TLS session; gives the session for a later attempt to resume it. */
function rawSession(running: Running, options: object): Promise<RawSession> {
  return new Promise((resolve, reject) => {
    const socket: TLSSocket = connect({
      host: '127.0.0.1',
      port: running.port,
      rejectUnauthorized: false,
      ...options,
    });
    let session: Buffer | undefined;
    let reused = false;
    socket.on('session', (value) => {
      session = value;
    });
    socket.on('error', reject);
    socket.on('secureConnect', () => {
      reused = socket.isSessionReused();
      session = socket.getSession();
      socket.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    });
    socket.resume();
    socket.on('close', () => resolve({ reused, session }));
  });
}

describe('TLS', () => {
  it.each(['TLSv1.2', 'TLSv1.3'] as const)('%s sessions are not resumed', async (version) => {
    const running = await startServer();
    const options = { ...identity(running.kms, 'temp'), minVersion: version, maxVersion: version };
    const first = await rawSession(running, options);
    const second = await rawSession(running, {
      minVersion: version,
      maxVersion: version,
      session: first.session,
    });
    expect([first.reused, second.reused]).toEqual([false, false]);
    expect(running.events.map((event) => event.certificate)).toEqual(['chained', 'none']);
  });

  it('TLS 1.1 is refused', async () => {
    const running = await startServer();
    const options = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' };
    await expect(rawSession(running, options)).rejects.toThrow();
    expect(running.events[0]?.outcome).toBe('handshake-failed');
  });

  it('a client that says nothing is cut off', async () => {
    const running = await startServer(bindingOnly, testKms(), { handshakeTimeoutMs: 100 });
    const socket = netConnect(running.port, '127.0.0.1');
    const started = Date.now();
    await new Promise<void>((resolve) =>
      socket
        .once('close', () => resolve())
        .on('error', () => undefined)
        .resume(),
    );
    expect(Date.now() - started).toBeLessThan(3000);
  });

  it.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'a client that closes its side still gets the answer (%s)',
    async (version) => {
      const later: PeerVerifier = async () => {
        await new Promise((resolve) => setTimeout(resolve, 50));
        return verdict(now + 10);
      };
      const running = await startServer(later, testKms(), { now: () => now * 1000 });
      const options = {
        host: '127.0.0.1',
        port: running.port,
        rejectUnauthorized: false,
        allowHalfOpen: true,
        minVersion: version,
        maxVersion: version,
        ...identity(running.kms, 'temp'),
      };
      const socket = connect(options);
      await once(socket, 'secureConnect');
      socket.end('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
      let text = '';
      socket.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      await once(socket, 'end');
      expect(text).toContain('attested');
      socket.destroy();
    },
  );

  it('a client that asks nothing after the handshake is cut off soon after the time for headers', async () => {
    const running = await startServer();
    running.server.headersTimeout = 100;
    const socket = connect({ host: '127.0.0.1', port: running.port, rejectUnauthorized: false });
    socket.on('error', () => undefined).resume();
    await once(socket, 'secureConnect');
    const started = Date.now();
    await once(socket, 'close');
    expect(Date.now() - started).toBeLessThan(4_000);
  }, 10_000);

  it('unfinished handshakes of one address are counted', async () => {
    const running = await startServer(bindingOnly, testKms(), { connections: { maxSilentPerNetwork: 2 } });
    const idle = [netConnect(running.port, '127.0.0.1'), netConnect(running.port, '127.0.0.1')];
    await Promise.all(idle.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
    await expect(get(running.port, agentFor(running))).rejects.toThrow();
    for (const socket of idle) socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await get(running.port, agentFor(running))).toBe('200 anonymous');
  });

  it('handshakes that wait for their turn are finished all the same', async () => {
    const running = await startServer();
    const identities = [identity(running.kms, 'temp'), undefined];
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, index) => get(running.port, agentFor(running, identities[index % 2]))),
    );
    expect(new Set(answers)).toEqual(new Set(['200 attested', '200 anonymous']));
  });

  it('new connections get a reloaded certificate', async () => {
    const running = await startServer();
    const before = agentFor(running);
    await get(running.port, before);
    const next = testKms();
    const key = p256KeyPem(next.rpcKey);
    reloadCertificate(running.server, { key, certChain: next.rpcPem, clientCa: next.tempCaPem });
    expect(await get(running.port, before)).toBe('200 anonymous');
    await expect(get(running.port, agentFor(running))).rejects.toThrow(RaTlsError);
    expect(await get(running.port, agentFor({ ...running, kms: next }))).toBe('200 anonymous');
  });
});
