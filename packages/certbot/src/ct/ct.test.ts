import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DerReader } from '@dstack-cloud/encoding';
import { type CtLog, consistency, startCtLog, treeHash } from '@dstack-cloud/test/ct-log';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { certReportData } from '../report-data.ts';
import { factsOfCertificate } from './certificate-facts.ts';
import { logSource } from './log-source.ts';
import { appendLeaf, EMPTY, type Frontier, leafHash, provenFrontier, rootOf } from './merkle.ts';
import { lookOnce, type MonitorOptions } from './monitor.ts';
import { searchSource } from './search-source.ts';

const DOMAIN = 'apps.example.test';
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const APP = 'a1'.repeat(20);
const NOW = Math.floor(Date.now() / 1000);

describe('the tree of a log', () => {
  const leaves = Array.from({ length: 40 }, (_, n) => Buffer.from(`leaf ${n}`));
  const grown: Frontier[] = [EMPTY];
  for (const leaf of leaves) grown.push(appendLeaf(grown.at(-1)!, leafHash(leaf)));

  it('has the root of RFC 6962, whatever its size', () => {
    for (const [size, frontier] of grown.entries())
      expect(hex(rootOf(frontier))).toBe(hex(treeHash(leaves.slice(0, size))));
  });

  it('is continued from a proof as from its leaves, and from no proof that was changed', () => {
    for (let second = 2; second <= 40; second++)
      for (let first = 1; first < second; first++) {
        const proof = consistency(first, leaves.slice(0, second));
        const [before, after] = [treeHash(leaves.slice(0, first)), treeHash(leaves.slice(0, second))];
        const found = provenFrontier(first, before, second, after, proof);
        expect(found?.nodes.map(hex)).toEqual(grown[first]!.nodes.map(hex));
        for (const [at, node] of proof.entries()) {
          const changed = proof.with(at, Buffer.from(node.map((byte) => byte ^ 1)));
          expect(provenFrontier(first, before, second, after, changed)).toBeUndefined();
        }
        expect(provenFrontier(first, before, second, after, proof.slice(1))).toBeUndefined();
        expect(provenFrontier(first, before, second, after, [...proof, before])).toBeUndefined();
      }
  });
});

describeWithPrograms('the monitor of Certificate Transparency', ['openssl'], () => {
  const folder = mkdtempSync(join(tmpdir(), 'ct-monitor-'));
  const servers: Server[] = [];
  let log: CtLog;
  let ours: Buffer;
  let strangers: Buffer;
  let others: Buffer;
  let ended: Buffer;
  const published: string[] = [];
  let verdicts: Record<string, object> = {};
  const alarms: unknown[] = [];
  let options: MonitorOptions;
  let gatewayDown = false;

  beforeAll(() => {
    ours = certificate('ours', `*.${DOMAIN}`);
    strangers = certificate('strangers', `*.${DOMAIN}`);
    others = certificate('others', 'www.other.test');
    ended = certificate('ended', DOMAIN, '20200101000000Z');
  });

  beforeAll(async () => {
    const gateway = await serve((path, body) => {
      if (gatewayDown) return undefined;
      if (path === '/.dstack/acme-info')
        return {
          quoted_hist_keys: published.map((key) => ({
            public_key: key,
            quote: '',
            attestation: JSON.stringify({ attestation: createHash('sha256').update(key).digest('hex') }),
          })),
        };
      if (path === '/verify') return verdicts[(JSON.parse(body) as { attestation: string }).attestation];
      alarms.push(JSON.parse(body));
      return path === '/alarm' ? {} : undefined;
    });
    options = {
      ...{
        domain: DOMAIN,
        gatewayUrl: gateway,
        verifierUrl: gateway,
        appId: APP,
        composeHashes: [],
        sources: [],
      },
      ...{ statePath: join(folder, 'state.json'), webhookUrl: `${gateway}/alarm`, now: () => NOW },
      ...{ log: () => undefined, staleAnswerMs: 0 },
    };
  });

  afterEach(() => {
    log?.close();
    rmSync(options.statePath, { force: true });
    published.splice(0);
    alarms.splice(0);
    verdicts = {};
    gatewayDown = false;
  });
  afterAll(() => {
    for (const server of servers) server.close();
    rmSync(folder, { recursive: true });
  });

  it('knows the gateway by its quoted keys, and alarms once for a certificate of another key, over restarts', async () => {
    log = await startCtLog();
    publish(ours);
    log.add(others);
    log.add(ours);
    log.add(tbs(ours), 'precertificate');
    const sources = [logSource(log.url, log.publicKey, true)];
    expect(await lookOnce({ ...options, sources })).toEqual({ unknown: 0, knownKeys: 1, problems: [] });
    log.add(ended);
    log.add(tbs(strangers), 'precertificate');
    log.add(strangers);
    expect(await lookOnce({ ...options, sources })).toMatchObject({ unknown: 1, problems: [] });
    expect(alarms).toEqual([
      expect.objectContaining({
        domain: DOMAIN,
        names: [`*.${DOMAIN}`],
        spki: factsOfCertificate(strangers).spki,
      }),
    ]);
    expect(await lookOnce({ ...options, sources })).toMatchObject({ unknown: 1 });
    expect(alarms).toHaveLength(1);
    expect(statSync(options.statePath).mode & 0o777).toBe(0o600);
    // What the gateway no longer shows is still its own.
    published.splice(0);
    log.add(ours);
    expect(await lookOnce({ ...options, sources })).toMatchObject({ unknown: 1, knownKeys: 1 });
  });

  it('takes a key for known when it is published before the certificate is judged', async () => {
    log = await startCtLog();
    log.add(ours);
    const pending = lookOnce({
      ...options,
      staleAnswerMs: 300,
      sources: [logSource(log.url, log.publicKey, true)],
    });
    setTimeout(() => publish(ours), 100);
    expect(await pending).toEqual({ unknown: 0, knownKeys: 1, problems: [] });
  });

  it.each([
    ['is not valid', { is_valid: false }],
    ['is for another key', { details: { report_data: '00'.repeat(64) } }],
    [
      'is of another application',
      { details: { app_info: { app_id: 'b2'.repeat(20), compose_hash: 'c3'.repeat(32) } } },
    ],
    ['is of a version that is not expected', {}, ['d4'.repeat(32)]],
  ])('counts no key whose evidence %s', async (_what, change, composeHashes: string[] = []) => {
    log = await startCtLog();
    publish(ours, change);
    log.add(ours);
    const sources = [logSource(log.url, log.publicKey, true)];
    expect(await lookOnce({ ...options, composeHashes, sources })).toMatchObject({
      unknown: 1,
      knownKeys: 0,
    });
  });

  it('tells what it cannot tell: while the gateway is away nothing is taken for seen', async () => {
    log = await startCtLog();
    publish(ours);
    const sources = [logSource(log.url, log.publicKey, true)];
    await lookOnce({ ...options, sources });
    log.add(strangers);
    gatewayDown = true;
    const look = await lookOnce({ ...options, sources });
    expect(look.problems[0]).toMatch(/^The gateway: HTTP 400/);
    gatewayDown = false;
    expect(await lookOnce({ ...options, sources })).toMatchObject({ unknown: 1, problems: [] });
  });

  it('tells an alarm until somebody has it', async () => {
    log = await startCtLog();
    log.add(strangers);
    const sources = [logSource(log.url, log.publicKey, true)];
    const away = { ...options, sources, webhookUrl: options.webhookUrl.replace('/alarm', '/nobody') };
    expect((await lookOnce(away)).problems[0]).toMatch(/^The webhook: HTTP 400/);
    alarms.splice(0);
    await lookOnce({ ...options, sources });
    expect(alarms).toHaveLength(1);
  });

  it.each([
    ['shows another entry than is in its tree', (l: CtLog) => l.hide(6, others), /not made of the entries/],
    ['changes what it showed before', (l: CtLog) => l.rewrite(1, strangers), /does not prove|another tree/],
    ['forgets entries', (l: CtLog) => l.truncate(3), /has 3 entries now, and had 5/],
    ['has its head signed by somebody else', (l: CtLog) => l.signWrongly(), /did not sign/],
  ])('finds out a log that %s', async (_what, lie, message) => {
    for (const fromStart of [true, false]) {
      log = await startCtLog();
      publish(ours);
      for (let n = 0; n < 5; n++) log.add(ours);
      const sources = [logSource(log.url, log.publicKey, fromStart)];
      expect((await lookOnce({ ...options, sources })).problems).toEqual([]);
      if (!message.source.includes('forgets') && !message.source.includes('had 5'))
        for (let n = 0; n < 3; n++) log.add(ours);
      lie(log);
      const { problems } = await lookOnce({ ...options, sources });
      expect(problems.join(), `from start: ${fromStart}`).toMatch(message);
      log.close();
      rmSync(options.statePath);
      published.splice(0);
    }
  });

  it('reads a log from now on when it is not told to read all', async () => {
    log = await startCtLog();
    publish(ours);
    for (let n = 0; n < 7; n++) log.add(strangers);
    const sources = [logSource(log.url, log.publicKey, false)];
    for (const size of [7, 8, 9, 20]) {
      for (let n = size - 7; n > 0; n--) log.add(ours);
      expect(await lookOnce({ ...options, sources })).toEqual({ unknown: 0, knownKeys: 1, problems: [] });
    }
    log.add(strangers);
    expect(await lookOnce({ ...options, sources })).toMatchObject({ unknown: 1, problems: [] });
  });

  it('searches as at crt.sh: below the domain too, each certificate once, and the rest in spite of an alarm', async () => {
    const found = new Map([
      [11, strangers],
      [7, ours],
    ]);
    const asked: string[] = [];
    const url = await serve((path) => {
      asked.push(path);
      const id = /^\/\?d=(\d+)$/.exec(path)?.[1];
      if (id !== undefined) return pem(found.get(Number(id))!);
      return [...found.keys()].map((one) => ({ id: one, name_value: 'any' }));
    });
    publish(ours);
    const sources = [searchSource(url)];
    expect(await lookOnce({ ...options, sources })).toMatchObject({ unknown: 1, problems: [] });
    expect(asked.filter((path) => path.includes('output=json'))).toEqual([
      `/?q=${DOMAIN}&output=json`,
      `/?q=%25.${DOMAIN}&output=json`,
    ]);
    found.set(12, ours);
    await lookOnce({ ...options, sources });
    expect(asked.filter((path) => path.startsWith('/?d='))).toEqual(['/?d=7', '/?d=11', '/?d=12']);
    found.set(13, Buffer.from('no certificate'));
    expect((await lookOnce({ ...options, sources })).problems.join()).toMatch(
      /certificate 13 cannot be read/,
    );
  });

  it('takes no damaged state for an empty one, and none of another domain', async () => {
    log = await startCtLog();
    const sources = [logSource(log.url, log.publicKey, true)];
    await lookOnce({ ...options, sources });
    const text = readFileSync(options.statePath, 'utf8');
    writeFileSync(options.statePath, text.slice(0, -4));
    await expect(lookOnce({ ...options, sources })).rejects.toMatchObject({ code: 'ct-failed' });
    writeFileSync(options.statePath, text);
    await expect(lookOnce({ ...options, sources, domain: 'x.test' })).rejects.toThrow(/of another domain/);
    expect(existsSync(options.statePath)).toBe(true);
  });

  /** The gateway shows the key of a certificate, and the verifier says this about its evidence. */
  function publish(der: Buffer, change: { is_valid?: boolean; details?: object } = {}): void {
    const key = factsOfCertificate(der).spki;
    published.push(key);
    verdicts[createHash('sha256').update(key).digest('hex')] = {
      is_valid: change.is_valid ?? true,
      details: {
        report_data: Buffer.from(certReportData('zt-cert', Buffer.from(key, 'hex'))).toString('hex'),
        app_info: { app_id: APP, compose_hash: 'c3'.repeat(32) },
        ...change.details,
      },
    };
  }

  /** A text is sent as it is, anything else as JSON; nothing is refused. */
  async function serve(answer: (path: string, body: string) => unknown): Promise<string> {
    const server = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk) => {
        body += chunk;
      });
      request.on('end', () => {
        const found = answer(request.url ?? '', body);
        response
          .writeHead(found === undefined ? 400 : 200)
          .end(typeof found === 'string' ? found : JSON.stringify(found ?? {}));
      });
    }).listen(0, '127.0.0.1');
    servers.push(server);
    await once(server, 'listening');
    return `http://127.0.0.1:${(server.address() as { port: number }).port}`;
  }

  function certificate(name: string, host: string, end?: string): Buffer {
    const made = '-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x'.split(' ');
    const file = join(folder, name);
    const times = end === undefined ? ['-days', '2'] : ['-days', '1'];
    const files = [
      '-keyout',
      `${file}.key`,
      '-outform',
      'DER',
      '-out',
      file,
      '-addext',
      `subjectAltName=DNS:${host}`,
    ];
    execFileSync('openssl', ['req', ...made, ...times, ...files], { stdio: 'ignore' });
    const der = readFileSync(file);
    if (end === undefined) return der;
    // Its time is over; nobody looks at the signature.
    const at = der.indexOf(Buffer.from([0x17, 0x0d]), der.indexOf(Buffer.from([0x17, 0x0d])) + 2);
    der.write(end.slice(2), at + 2, 'latin1');
    return der;
  }

  function tbs(der: Buffer): Uint8Array {
    return new DerReader(new DerReader(der).next(0x30).contents).next(0x30).raw;
  }

  function pem(der: Buffer): string {
    return `-----BEGIN CERTIFICATE-----\n${der.toString('base64').replaceAll(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`;
  }
});
