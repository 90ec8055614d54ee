import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@dstack-cloud/guest-agent';
import { type RunningSimulator, startSimulator } from '@dstack-cloud/simulator';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  AttestedFetcher,
  attestedClient,
  createRaTlsServer,
  DstackClient,
  type DstackError,
  encryptEnvVars,
  TappdClient,
  type Trust,
  verifyEvidence,
  verifySignatureChain,
} from './index.ts';
import { toViemAccount } from './viem.ts';

const log = createLogger('test');
log.level = 'silent';
let directory: string;
let simulator: RunningSimulator;
let client: DstackClient;
let trust: Trust;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'dstack-sdk-'));
  simulator = await startSimulator({ directory }, log);
  client = new DstackClient(simulator.sockets.dstack);
  const { compose_hash, mr_aggregated } = await client.info();
  trust = {
    expect: { compose_hash, mr_aggregated },
    simulatedRoot: readFileSync(simulator.rootFile ?? '', 'utf8'),
    collateralUrl: simulator.collateralUrl ?? '',
  };
});
afterAll(async () => {
  client?.close();
  await simulator?.close();
  rmSync(directory, { recursive: true, force: true });
});

describe('the agent of this machine', () => {
  it('keys: the same again, another for another path, an account', async () => {
    const key = await client.getKey('wallet', 'mainnet');
    expect(key.key).toHaveLength(32);
    expect((await client.getKey('wallet', 'mainnet')).key).toEqual(key.key);
    expect((await client.getKey('other', 'mainnet')).key).not.toEqual(key.key);
    expect(toViemAccount(key).address).toMatch(/^0x[0-9a-fA-F]{40}$/);
    expect(() => toViemAccount({ ...key, __name__: 'GetTlsKeyResponse' } as never)).toThrow(
      'not of getTlsKey',
    );
  });

  it('texts that are not ASCII arrive whole', async () => {
    expect((await client.getKey('ümläut/你好')).key).toHaveLength(32);
    const [leaf = ''] = (await client.getTlsKey({ subject: 'ümläut' })).certificate_chain;
    expect(leaf).toContain('BEGIN CERTIFICATE');
  });

  it('quotes: the log replays to the registers; report data is bounded before it is sent', async () => {
    const quote = await client.getQuote('nonce');
    const { tcb_info: tcb } = await client.info();
    expect(quote.replayRtmrs()).toEqual({ 0: tcb.rtmr0, 1: tcb.rtmr1, 2: tcb.rtmr2, 3: tcb.rtmr3 });
    await expect(client.attest('x'.repeat(65))).rejects.toMatchObject({ code: 'argument' });
  });

  it('signatures', async () => {
    const signed = await client.sign('ed25519', 'message');
    expect(await client.verify('ed25519', 'message', signed.signature, signed.public_key)).toEqual({
      valid: true,
    });
    expect(await client.verify('ed25519', 'changed', signed.signature, signed.public_key)).toEqual({
      valid: false,
    });
    await expect(client.sign('rsa' as never, 'message')).rejects.toMatchObject({
      code: 'refused',
      status: 400,
      serverError: 'Unsupported algorithm',
    });
  });

  it('a chain that no key service signed is refused', async () => {
    const { key, signature_chain: chain } = await client.getKey('wallet', 'x');
    const { app_id: appId } = await client.info();
    const claim = { key, chain, appId, purpose: 'x', kmsRootPublicKey: `02${'11'.repeat(32)}` };
    expect(() => verifySignatureChain(claim)).toThrow(expect.objectContaining({ code: 'untrusted' }));
  });

  it('tappd: its own methods and those of DstackClient', async () => {
    const tappd = new TappdClient(simulator.sockets.tappd);
    expect((await tappd.deriveKey('/')).key).toContain('PRIVATE KEY');
    expect((await tappd.tdxQuote('test')).quote).toBeTruthy();
    expect((await tappd.getKey('wallet')).key).toEqual((await client.getKey('wallet')).key);
    expect((await tappd.info()).app_id).toBe((await client.info()).app_id);
    tappd.close();
  });

  it('health and reachability', async () => {
    expect(await client.isReachable()).toBe(true);
    expect(await client.health()).toMatchObject({ ok: true });
  });
});

describe('evidence of a peer', () => {
  it('is accepted when it is what was expected, over the nonce that was sent', async () => {
    const report = await verifyEvidence(await client.getAttestation('my nonce'), 'my nonce', trust);
    expect(report).toMatchObject({ isValid: true, simulated: true });
  });

  it.each<[string, () => Partial<Trust>, string]>([
    ['another application', () => ({ expect: { ...trust.expect, compose_hash: '00'.repeat(32) } }), 'nonce'],
    ['another nonce', () => ({}), 'another'],
    ['no simulated root', () => ({ simulatedRoot: undefined as never }), 'nonce'],
  ])('is refused: %s', async (_, changed, nonce) => {
    const merged = { ...trust, ...changed() };
    if (merged.simulatedRoot === undefined) delete (merged as { simulatedRoot?: string }).simulatedRoot;
    const evidence = await client.getAttestation('nonce');
    await expect(verifyEvidence(evidence, nonce, merged)).rejects.toMatchObject({ code: 'untrusted' });
  });

  it('a question that any application or any OS could answer is refused', async () => {
    const evidence = await client.getAttestation('nonce');
    const { compose_hash = '' } = trust.expect;
    for (const expected of [{}, { compose_hash }, { mr_aggregated: '00'.repeat(32), nonsense: '00' }]) {
      const question = verifyEvidence(evidence, 'nonce', { ...trust, expect: expected });
      await expect(question).rejects.toMatchObject({ code: 'argument' });
    }
    const any = { ...trust, expect: { compose_hash }, anyOsImage: true };
    expect((await verifyEvidence(evidence, 'nonce', any)).isValid).toBe(true);
  });

  it('one flipped bit is refused', async () => {
    const evidence = await client.getAttestation('nonce');
    evidence[700] = (evidence[700] ?? 0) ^ 1;
    await expect(verifyEvidence(evidence, 'nonce', trust)).rejects.toMatchObject({ code: 'untrusted' });
  });
});

describe('attested TLS', () => {
  let server: Server;
  let url: string;
  beforeAll(async () => {
    server = await createRaTlsServer({
      client,
      subject: 'localhost',
      altNames: ['localhost'],
      handler: (request, response) => {
        const another = { ...trust, expect: { ...trust.expect, compose_hash: '00'.repeat(32) } };
        attestedClient(request, request.url === '/another' ? another : trust).then(
          (report) => response.end(report === undefined ? 'a stranger' : `app ${report.appInfo?.app_id}`),
          (error: DstackError) => response.writeHead(403).end(error.code),
        );
      },
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `https://localhost:${(server.address() as AddressInfo).port}/`;
  });
  afterAll(() => {
    server?.close();
  });

  it('both sides verify each other', async () => {
    const anonymous = new AttestedFetcher(trust);
    expect((await anonymous.fetch(url)).text()).toBe('a stranger');
    anonymous.close();
    const identity = await client.getTlsKey({ usageRaTls: true, usageClientAuth: true });
    const known = new AttestedFetcher(trust, identity);
    expect((await known.fetch(url)).text()).toBe(`app ${(await client.info()).app_id}`);
    expect((await known.fetch(`${url}another`)).status).toBe(403);
    known.close();
  });

  it('a server that is another application gets no request', async () => {
    const fetcher = new AttestedFetcher({
      ...trust,
      expect: { ...trust.expect, compose_hash: '00'.repeat(32) },
    });
    await expect(fetcher.fetch(url)).rejects.toMatchObject({ code: 'untrusted' });
    await expect(fetcher.fetch(url.replace('https', 'http'))).rejects.toMatchObject({ code: 'argument' });
    fetcher.close();
  });
});

describe('agents that fail', () => {
  let server: Server;
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });
  async function agent(
    answer: (calls: number) => [status: number, body: string] | undefined,
  ): Promise<string> {
    let calls = 0;
    server = createServer((request, response) => {
      request.resume();
      const given = answer(++calls);
      if (given !== undefined) response.writeHead(given[0]).end(given[1]);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  it('one that is not ready yet is asked again; an event is not sent twice', async () => {
    const busy = await agent((calls) =>
      calls < 3 ? [503, '{"error":"starting"}'] : [200, '{"version":"1","rev":"r"}'],
    );
    expect(await new DstackClient(busy).version()).toEqual({ version: '1', rev: 'r' });
    await expect(new DstackClient(busy, { retries: 0 }).info()).rejects.toMatchObject({ code: 'answer' });
  });

  it('a connection that ends in the middle: an event is not sent again', async () => {
    let seen = 0;
    server = createServer((request) => {
      seen++;
      request.socket.destroy();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const broken = new DstackClient(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    await expect(broken.emitEvent('event', '')).rejects.toMatchObject({ code: 'connection' });
    expect(seen).toBe(1);
    await expect(broken.version()).rejects.toMatchObject({ code: 'connection' });
    expect(seen).toBe(4);
  });

  it('time-out, abort, and what is no agent', async () => {
    const silent = new DstackClient(await agent(() => undefined));
    await expect(silent.version({ timeoutMs: 50 })).rejects.toMatchObject({ code: 'timeout' });
    await expect(silent.version({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'aborted' });
    expect(await silent.isReachable()).toBe(false);
    server.closeAllConnections();
    server.close();
    const page = new DstackClient(await agent(() => [200, '<html>']));
    await expect(page.version()).rejects.toMatchObject({
      code: 'answer',
      message: expect.stringContaining('not JSON'),
    });
  });

  it('no socket, and a path that is none', async () => {
    await agent(() => undefined);
    expect(() => new DstackClient('/nowhere/dstack.sock')).toThrow('/nowhere/dstack.sock does not exist');
    const file = join(directory, 'file');
    writeFileSync(file, '');
    await expect(new DstackClient(file, { retries: 0 }).version()).rejects.toMatchObject({
      code: 'connection',
    });
  });
});

it('an environment is encrypted for a key alone', () => {
  const hex = encryptEnvVars(
    [{ key: 'A', value: 'b' }],
    '4b03687002c7e0f6e8eaabea3edc108de72a06d2c2b64a3e14c34883645c7127',
  );
  expect(hex).toMatch(/^[0-9a-f]{150,}$/);
});
