import { type Agent, request as httpsRequest, type Server } from 'node:https';
import { type AddressInfo, connect as netConnect } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import { AttestationError, ratlsReportData } from '@dstack-cloud/attestation';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { afterEach, describe, expect, it } from 'vitest';
import { certificatePem, issueCertificate } from '../certificate/issue-certificate.ts';
import { appLeaf, rpcCertificate, tempClient } from '../certificate/profiles.ts';
import { RaTlsError } from '../errors.ts';
import {
  attestationFor,
  bindingOnly,
  hollowAttestation,
  now,
  type TestKms,
  testKms,
  verdict,
} from '../testing/samples.ts';
import { raTlsAgent } from './agent.ts';
import type { PeerVerifier } from './peer.ts';
import { peerOf } from './peer.ts';
import { createRaTlsServer, reloadCertificate, type SessionEvent } from './server.ts';

const opened: Array<{ close(): unknown }> = [];
afterEach(() => {
  for (const item of opened.splice(0)) item.close();
});

interface Running {
  readonly kms: TestKms;
  readonly server: Server;
  readonly port: number;
  readonly events: SessionEvent[];
}

/** A server that answers who the client is, or why it is refused. */
async function start(
  verify: PeerVerifier = bindingOnly,
  kms: TestKms = testKms(),
  options: { handshakeTimeoutMs?: number; maxHandshakes?: number; now?: () => number } = {},
): Promise<Running> {
  const events: SessionEvent[] = [];
  const server = createRaTlsServer({
    key: p256KeyPem(kms.rpcKey),
    certChain: kms.rpcPem,
    clientCa: kms.tempCaPem,
    onSession: (event) => events.push(event),
    handler: (request, response) => {
      peerOf(request)
        .attestation(verify)
        .then(
          (verified) => response.end(verified ? 'attested' : 'anonymous'),
          (error: Error) => response.writeHead(400).end(error.message),
        );
    },
    ...options,
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  opened.push({
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  });
  return { kms, server, port: (server.address() as AddressInfo).port, events };
}

function get(port: number, agent: Agent): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest({ host: '127.0.0.1', port, agent, timeout: 5000 }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => (text += chunk.toString()));
      response.on('end', () => resolve(`${response.statusCode} ${text}`));
      response.on('error', reject);
    });
    request.on('error', reject);
    request.end();
  });
}

type Identity = { cert: string; key: string } | undefined;

function agentFor({ kms }: Running, identity?: Identity): Agent {
  const agent = raTlsAgent({ ca: kms.rootPem, ...identity, verifyServer: { verify: bindingOnly } });
  opened.push({ close: () => agent.destroy() });
  return agent;
}

function identity(
  kms: TestKms,
  kind: 'temp' | 'temp-no-evidence' | 'self' | 'self-attested' | 'root-attested' | 'other-key' | 'expired',
): Identity {
  const key = generateP256Key();
  const attestation = attestationFor(key);
  const subject = { commonName: 'RA-TLS TEMP Cert' };
  const made = {
    temp: () => tempClient({ spki: key.spki, issuer: kms.temp, attestation, now }),
    'temp-no-evidence': () =>
      issueCertificate({ subject, spki: key.spki, issuer: kms.temp, notAfter: now + 3600 }),
    self: () => issueCertificate({ subject, spki: key.spki, issuer: key, notAfter: now + 3600 }),
    'self-attested': () =>
      issueCertificate({ subject, spki: key.spki, issuer: key, notAfter: now + 3600, attestation }),
    'root-attested': () => tempClient({ spki: key.spki, issuer: kms.root, attestation, now }),
    'other-key': () =>
      tempClient({ spki: key.spki, issuer: kms.temp, attestation: attestationFor(generateP256Key()), now }),
    expired: () =>
      issueCertificate({ subject, spki: key.spki, issuer: kms.temp, notAfter: now - 60, attestation }),
  };
  return { cert: certificatePem(made[kind]()), key: p256KeyPem(key) };
}

describe('clients of the server', () => {
  it.each([
    ['none', undefined, '200 anonymous', 'none'],
    ['temp', 'temp', '200 attested', 'chained'],
    ['temp CA without evidence', 'temp-no-evidence', '200 anonymous', 'chained'],
    ['self-signed with evidence', 'self-attested', '200 attested', 'attested'],
    ['issued by the root, with evidence', 'root-attested', '200 attested', 'attested'],
    ['evidence for another key', 'other-key', '400 report data mismatch', 'chained'],
  ] as const)('%s', async (_, kind, answer, certificate) => {
    const running = await start();
    expect(await get(running.port, agentFor(running, kind && identity(running.kms, kind)))).toBe(answer);
    expect(running.events).toEqual([{ outcome: 'accepted', certificate, remoteAddress: '127.0.0.1' }]);
  });

  it.each([
    ['self', /unverified peer/],
    ['expired', /not in force/],
  ] as const)('%s is cut off', async (kind, reason) => {
    const running = await start();
    await expect(get(running.port, agentFor(running, identity(running.kms, kind)))).rejects.toThrow();
    expect(running.events[0]?.outcome).toBe('refused');
    expect(running.events[0]?.reason).toMatch(reason);
  });

  it('a certificate that cannot be read gets no answer but an error', async () => {
    const running = await start();
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
    const running = await start();
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
  it('are made once per connection, and again after ten minutes', async () => {
    let calls = 0;
    let time = now * 1000;
    const count: PeerVerifier = () => {
      calls++;
      return Promise.resolve(verdict(now + 7200));
    };
    const running = await start(count, testKms(), {
      now: () => time,
    });
    const agent = agentFor(running, identity(running.kms, 'temp'));
    for (let i = 0; i < 3; i++) expect(await get(running.port, agent)).toBe('200 attested');
    expect(calls).toBe(1);
    time += 10 * 60_000;
    await get(running.port, agent);
    expect(calls).toBe(2);
    time -= 1;
    await get(running.port, agent);
    expect(calls).toBe(3);
    expect(running.events.length).toBe(1);
  });

  it('end with the evidence', async () => {
    let time = now * 1000;
    const running = await start(() => Promise.resolve(verdict(now + 10)), testKms(), { now: () => time });
    const agent = agentFor(running, identity(running.kms, 'temp'));
    expect(await get(running.port, agent)).toBe('200 attested');
    time += 11_000;
    expect(await get(running.port, agent)).toMatch(/^400 .*expired/);
  });

  it('a refusal is kept, a want of collateral is not', async () => {
    let calls = 0;
    const refusals = [
      new RaTlsError('attestation-refused', 'no collateral', {
        cause: new AttestationError('collateral-unavailable', 'down'),
      }),
      new RaTlsError('attestation-refused', 'bad quote'),
    ];
    const running = await start(() => Promise.reject(refusals[Math.min(calls++, 1)]!));
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
    const running = await start();
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
    const running = await start();
    const options = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' };
    await expect(rawSession(running, options)).rejects.toThrow();
    expect(running.events[0]?.outcome).toBe('handshake-failed');
  });

  it('a client that says nothing is cut off', async () => {
    const running = await start(bindingOnly, testKms(), { handshakeTimeoutMs: 100 });
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

  it('unfinished handshakes are counted', async () => {
    const running = await start(bindingOnly, testKms(), { maxHandshakes: 2 });
    const idle = [netConnect(running.port, '127.0.0.1'), netConnect(running.port, '127.0.0.1')];
    await Promise.all(idle.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
    await expect(get(running.port, agentFor(running))).rejects.toThrow();
    for (const socket of idle) socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await get(running.port, agentFor(running))).toBe('200 anonymous');
  });

  it('new connections get a reloaded certificate', async () => {
    const running = await start();
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

describe('the agent', () => {
  /** Asks a server that shows `certificate` under the rules. */
  async function ask(
    kms: TestKms,
    options: Omit<Parameters<typeof raTlsAgent>[0], 'ca'> & { ca?: string },
  ): Promise<string> {
    const running = await start(bindingOnly, kms);
    const agent = raTlsAgent(options);
    opened.push({ close: () => agent.destroy() });
    return get(running.port, agent);
  }

  const code = (expected: string): unknown => expect.objectContaining({ code: expected });

  it('takes a KMS whose evidence verifies', async () => {
    const kms = testKms({ attested: true });
    const rules = { evidence: 'required' as const, verify: bindingOnly };
    expect(await ask(kms, { ca: kms.rootPem, verifyServer: rules })).toBe('200 anonymous');
    expect(await ask(kms, { verifyServer: rules })).toBe('200 anonymous');
  });

  it('an application certificate of the same root is no KMS', async () => {
    const kms = testKms();
    const config = {
      subject: 'kms',
      subjectAltNames: ['127.0.0.1'],
      usageServerAuth: true,
      usageClientAuth: false,
      extQuote: true,
      extAppInfo: false,
    };
    const attestation = attestationFor(kms.rpcKey);
    const app = certificatePem(
      appLeaf({ config, issuer: kms.root, spki: kms.rpcKey.spki, attestation, now }),
    );
    const request = ask({ ...kms, rpcPem: app }, { ca: kms.rootPem, verifyServer: { verify: bindingOnly } });
    await expect(request).rejects.toEqual(code('wrong-usage'));
  });

  it.each<[string, string, (kms: TestKms) => Parameters<typeof raTlsAgent>[0]]>([
    ['another root', 'connection', () => ({ ca: testKms().rootPem, verifyServer: { verify: bindingOnly } })],
    [
      'no evidence where it is required',
      'no-attestation',
      (kms) => ({ ca: kms.rootPem, verifyServer: { evidence: 'required', verify: bindingOnly } }),
    ],
    [
      'another key than the pinned one',
      'pin-mismatch',
      (kms) => ({
        ca: kms.rootPem,
        verifyServer: { evidence: 'ignore', pinnedSpki: generateP256Key().spki, verify: bindingOnly },
      }),
    ],
    [
      'a stranger, known by its pin alone',
      'pin-mismatch',
      () => ({ verifyServer: { evidence: 'ignore', pinnedSpki: generateP256Key().spki } }),
    ],
  ])('refuses %s', async (_, expected, options) => {
    const kms = testKms();
    await expect(ask(kms, options(kms))).rejects.toEqual(code(expected));
  });

  it('verifies evidence that is there, though it is not required', async () => {
    const kms = testKms();
    const bad = rpcCertificate({
      domain: '127.0.0.1',
      spki: kms.rpcKey.spki,
      issuer: kms.root,
      now,
      attestation: hollowAttestation(ratlsReportData(kms.tempKey.spki)),
    });
    const request = ask(
      { ...kms, rpcPem: certificatePem(bad) },
      { ca: kms.rootPem, verifyServer: { verify: bindingOnly } },
    );
    await expect(request).rejects.toThrow('report data mismatch');
  });

  it('checks the host name, but takes an address written as dNSName', async () => {
    const kms = testKms();
    const named = rpcCertificate({ domain: 'kms.example', spki: kms.rpcKey.spki, issuer: kms.root, now });
    const request = ask(
      { ...kms, rpcPem: certificatePem(named) },
      { ca: kms.rootPem, verifyServer: { verify: bindingOnly } },
    );
    await expect(request).rejects.toThrow(/altnames/);
  });

  it('lets the caller refuse, and asks before anything is sent', async () => {
    const kms = testKms({ attested: true });
    const onServer = (): never => {
      throw new RaTlsError('pin-mismatch', 'not this one');
    };
    await expect(
      ask(kms, { ca: kms.rootPem, verifyServer: { verify: bindingOnly, onServer } }),
    ).rejects.toThrow('not this one');
  });

  it('gives up on a server that says nothing', async () => {
    const { createServer } = await import('node:net');
    const silent = createServer(() => undefined);
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    opened.push({ close: () => silent.close() });
    const agent = raTlsAgent({
      ca: testKms().rootPem,
      verifyServer: { verify: bindingOnly },
      connectTimeoutMs: 100,
    });
    await expect(get((silent.address() as AddressInfo).port, agent)).rejects.toEqual(code('connection'));
    agent.destroy();
  });

  it('refuses rules that would trust anybody', () => {
    const ca = testKms().rootPem;
    for (const options of [
      { verifyServer: {} },
      { ca, verifyServer: {} },
      { ca, verifyServer: { evidence: 'required' } },
      { verifyServer: { verify: bindingOnly } },
      { verifyServer: { evidence: 'ignore' } },
      { ca, verifyServer: 'dangerously-unverified' },
    ] as const) {
      expect(() => raTlsAgent(options)).toThrow(TypeError);
    }
  });
});
