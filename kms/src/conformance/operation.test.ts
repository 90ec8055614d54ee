/** The checklist of checklist.test.ts, items 7 to 12: directories, replication, certificates, policy, operation. */

import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { createServer, get } from 'node:https';
import { join } from 'node:path';
import { encodeAttestation, ratlsReportData } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { CONFIRM_WORD, encodeCsrV2, OID, signCsr } from '@dstack-cloud/ra-tls';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { commitKeyFiles, keyDirectoryState, recoverKeyDirectory } from '../key-directory/commit.ts';
import type { RunningKms } from '../start-kms.ts';
import { ask, type ClientIdentity, call } from '../test/ask.ts';
import { AUTH_DIALECTS } from '../test/auth-dialects.ts';
import { dyingFileSystem } from '../test/crash-at.ts';
import { forgeCertificate } from '../test/forge-certificate.ts';
import { type Lab, labKeys, openLab } from '../test/lab.ts';
import { startNodeOfOneBlock } from '../test/node-of-one-block.ts';
import { startReceiver } from '../test/receiver.ts';
import { recordedDirectory } from '../test/recorded-kms.ts';

const _APP = new Uint8Array(20).fill(0x11);
const _INSTANCE = new Uint8Array(20).fill(0x33);
const HEX_APP = '11'.repeat(20);

let lab: Lab;
let kms: RunningKms;
beforeAll(async () => {
  lab = await openLab();
  kms = await lab.start();
});
afterEach(() => {
  lab.webhook.policy = {};
});
afterAll(() => lab.close());

const getAppKey = (client?: ClientIdentity, { main } = kms) =>
  call(main.port, 'GetAppKey', { api_version: 1, vm_config: '' }, { client });

describeWithFixtures('checklist, key directories', 'kms-original/full/key-directories.json', () => {
  test('checklist 7: a directory of the original loads (replay-root-keys), and ours has its names, forms and modes', async () => {
    const receiver = await startReceiver(lab, join(lab.directory, 'forms'));
    await call(receiver.port, 'Bootstrap', { domain: 'localhost' }, { plain: true });
    const { files } = recordedDirectory('kmsA') as unknown as {
      files: Record<
        string,
        { mode: string; bytes: number; first_line_label?: string; line_lengths?: number[] }
      >;
    };
    for (const [name, theirs] of Object.entries(files)) {
      const path = join(receiver.directory, name);
      const content = readFileSync(path, 'latin1');
      expect([name, `0o${(statSync(path).mode & 0o777).toString(8)}`]).toEqual([name, theirs.mode]);
      if (theirs.line_lengths !== undefined) {
        const lines = content.split('\n').map(({ length }) => length);
        expect([name, lines]).toEqual([name, theirs.line_lengths]);
        expect(content).toMatch(
          new RegExp(`^-----BEGIN ${theirs.first_line_label?.replace(/^-----BEGIN |-----$/g, '')}-----\n`),
        );
      }
    }
    expect(readFileSync(join(receiver.directory, 'root-k256.key'))).toHaveLength(32);
    expect(readFileSync(join(receiver.directory, 'rpc-domain'), 'utf8')).toBe('localhost');
    const info = JSON.parse(readFileSync(join(receiver.directory, 'bootstrap-info.json'), 'utf8')) as object;
    expect(Object.keys(info)).toEqual(['ca_pubkey', 'k256_pubkey', 'attestation']);
    receiver.stop.abort();
  });
});

test.each(['', '/', '/prpc', '/prpc/'])(
  'checklist 8: onboard, source_url ending in "%s" (with the original on either side: replay-root-keys)',
  async (ending) => {
    const receiver = await startReceiver(lab, join(lab.directory, `onboard-${ending.replaceAll('/', '_')}`));
    const attested = await lab.start();
    const input = {
      source_url: `https://localhost:${attested.main.port}${ending}`,
      domain: 'replica.example.com',
    };
    const { status, json } = await call(receiver.port, 'Onboard', input, { plain: true });
    expect([status, json['k256_pubkey']]).toEqual([200, toHex(attested.kms.keys.k256Pubkey)]);
    await call(receiver.port, 'Finish', {}, { plain: true });
    expect((await receiver.serving).kms.keys.roots).toEqual(attested.kms.keys.roots);
  },
);

test('checklist 9: OpenSSL takes the chain of SignCert; usage, app id and app info are wrapped twice; an address is one', async () => {
  const key = generateP256Key();
  const csr = encodeCsrV2({
    confirm: CONFIRM_WORD,
    pubkey: key.spki,
    config: {
      subject: 'app.example.com',
      subjectAltNames: ['app.example.com', '127.0.0.1'],
      usageServerAuth: true,
      usageClientAuth: true,
      extQuote: false,
      extAppInfo: true,
    },
    attestation: lab.guest().attest(ratlsReportData(key.spki)),
  });
  const input = { api_version: 2, csr: toHex(csr), signature: toHex(signCsr(csr, key)) };
  const { json } = await call(kms.main.port, 'SignCert', input);
  const chain = json['certificate_chain'] as string[];
  const [leaf, ca, root] = chain.map((pem) => new X509Certificate(pem));
  for (const [issued, issuer] of [
    [leaf, ca],
    [ca, root],
    [root, root],
  ] as const) {
    expect([issued!.checkIssued(issuer!), issued!.verify(issuer!.publicKey)]).toEqual([true, true]);
  }
  expect([leaf!.checkHost('app.example.com'), leaf!.checkIP('127.0.0.1'), leaf!.ca, ca!.ca]).toEqual([
    'app.example.com',
    '127.0.0.1',
    false,
    true,
  ]);
  const raw = leaf!.raw.toString('hex');
  expect(raw).toContain('060a2b0601040183e73d0104040c040a6170703a637573746f6d');
  expect(raw).toContain(`060a2b0601040183e73d010304160414${HEX_APP}`);
  expect(raw).toMatch(/060a2b0601040183e73d01090481..0481../);
  // A whole path validation: a TLS client that trusts the root alone.
  const server = createServer({ key: p256KeyPem(key), cert: `${chain[0]}${chain[1]}` }, (_, response) =>
    response.end('hi'),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const answer = await fetchTrusting(chain[2]!, port);
  expect(answer).toBe('hi');
  server.close();
});

test.each(Object.entries(AUTH_DIALECTS))('checklist 10: %s takes our question', async (_, dialect) => {
  lab.webhook.policy = { app: dialect, kms: dialect };
  const client = lab.client(lab.guest());
  expect((await getAppKey(client)).json['error']).toBeUndefined();
  expect((await call(kms.main.port, 'GetKmsKey', {}, { client })).json['error']).toBeUndefined();
});

test.each([
  ['no answer in time', { delayMs: 5_000, body: { isAllowed: true, gatewayAppId: '', reason: '' } }],
  ['500', { status: 500, body: { isAllowed: true, gatewayAppId: '', reason: '' } }],
  ['bad JSON', { raw: '{"isAllowed":true' }],
  ['a key missing', { body: { isAllowed: true, reason: '' } }],
  ['text for a bool', { body: { isAllowed: 'true', gatewayAppId: '', reason: '' } }],
])('checklist 10: fails closed on %s', async (_, answer) => {
  const webhook = { url: lab.webhook.url, timeout: '1s' };
  const hurried = await lab.start({ core: { auth_api: { type: 'webhook', webhook } } });
  lab.webhook.policy = { app: answer };
  const { status, json } = await getAppKey(lab.client(lab.guest()), hurried);
  expect([status, json['code'], json['disk_crypt_key']]).toEqual([400, 'UNAVAILABLE', undefined]);
});

test('checklist 11: a second bootstrap is refused, and a crash at any file operation leaves nothing or everything', async () => {
  const receiver = await startReceiver(lab, join(lab.directory, 'second'));
  expect((await call(receiver.port, 'Bootstrap', { domain: 'localhost' }, { plain: true })).status).toBe(200);
  const again = await call(receiver.port, 'Bootstrap', { domain: 'localhost' }, { plain: true });
  expect([again.status, again.json['error']]).toEqual([400, 'KMS has already been bootstrapped']);
  receiver.stop.abort();

  const files = await labKeys();
  const whole = dyingFileSystem(0, 'before');
  await commitKeyFiles(join(lab.directory, 'uncrashed'), files, whole.fs);
  expect(whole.operations()).toBeGreaterThan(30);
  const states = new Set<string>();
  for (let at = 1; at <= whole.operations(); at++) {
    for (const when of ['before', 'after'] as const) {
      const directory = join(lab.directory, `crash-${at}-${when}`);
      await commitKeyFiles(directory, files, dyingFileSystem(at, when).fs).catch(() => undefined);
      await recoverKeyDirectory(directory);
      const state = await keyDirectoryState(directory);
      states.add(state);
      if (state === 'keys') {
        for (const [name, content] of files)
          expect(readFileSync(join(directory, name))).toEqual(Buffer.from(content));
      } else {
        // Nothing stands in the way of trying again.
        expect([at, when, state]).toEqual([at, when, 'empty']);
        await commitKeyFiles(directory, files);
      }
    }
  }
  expect([...states].sort()).toEqual(['empty', 'keys']);
});

test('checklist 12: /health, names of metrics, X-App-Version, and the texts that operators search the log for', async () => {
  const lines: string[] = [];
  const logged = await lab.start({
    core: { rate_limit: { enabled: true } },
    options: { log: pino({ level: 'info' }, { write: (line) => lines.push(line) }) },
  });
  const { port } = logged.main;
  const health = await ask(port, '/health', { method: 'GET' });
  expect([health.status, health.body.toString(), health.headers['content-type']]).toEqual([
    200,
    'OK',
    'text/plain; charset=utf-8',
  ]);
  expect(health.headers['x-app-version']).toMatch(
    /^v\d+\.\d+\.\d+ \(git:[0-9a-f]+.*\)$|^v\d+\.\d+\.\d+ \(.+\)$/,
  );
  const client = lab.client(lab.guest());
  expect((await getAppKey(client, logged)).status).toBe(200);
  const named = await call(port, 'GetKey', { name: 'db' }, { client });
  expect(named.status).toBe(200);
  expect(lines.filter((line) => line.includes('"msg":"key dispatched"'))).toHaveLength(2);
  lab.webhook.policy = { app: { body: { isAllowed: false, gatewayAppId: '', reason: 'no' } } };
  expect((await getAppKey(client, logged)).status).toBe(400);
  lab.webhook.policy = {};
  const key = generateP256Key();
  const stolen = encodeAttestation(lab.guest().attest(ratlsReportData(generateP256Key().spki)));
  const replayed = {
    cert: forgeCertificate(key, [{ oid: OID.attestation, content: stolen }]),
    key: p256KeyPem(key),
  };
  await getAppKey(replayed, logged);
  await getAppKey({ cert: forgeCertificate(key, []), key: p256KeyPem(key) }, logged).catch(() => undefined);
  await ask(port, '/health', { method: 'GET', plain: true }).catch(() => undefined);
  const texts = [
    'key dispatched',
    'measurement not authorized',
    'workload not authorized',
    'attestation verification failed',
    'connection from unverified peer',
    'RA-TLS handshake failed',
  ];
  for (const text of texts)
    expect([text, lines.some((line) => line.includes(`"msg":"${text}"`))]).toEqual([text, true]);
  const metrics = (await ask(port, '/metrics', { method: 'GET' })).body.toString();
  for (const name of METRICS)
    expect([name, metrics.includes(`# TYPE dstack_kms_${name} `)]).toEqual([name, true]);
  expect(metrics).toContain(
    '# HELP dstack_kms_attestation_requests_total Total number of KMS attestation requests.',
  );
  expect(metrics).toContain(
    '# HELP dstack_kms_attestation_failures_total Total number of failed KMS attestation requests.',
  );
  // Counted: a release, a refusal by the policy, one by the evidence; what failed before the handler counts too.
  expect(metrics).toMatch(/^dstack_kms_attestation_requests_total 3$/m);
  expect(metrics).toMatch(/^dstack_kms_attestation_failures_total 2$/m);
});

test('checklist 12: on-chain sync completed is logged at a new block', async () => {
  const lines: string[] = [];
  const node = await startNodeOfOneBlock();
  const chain = { rpc_urls: [node.url], kms_contract: `0x${'11'.repeat(20)}`, chain_id: 31337 };
  const logged = await lab.start({
    core: { auth_api: { type: 'chain', chain } },
    options: { log: pino({ level: 'info' }, { write: (line) => lines.push(line) }) },
  });
  // There is no contract: the answer is a refusal, after the chain was read.
  expect((await getAppKey(lab.client(lab.guest()), logged)).status).toBe(400);
  expect(lines.filter((line) => line.includes('"msg":"on-chain sync completed"'))).not.toEqual([]);
  await logged.close();
  node.close();
});

const METRICS = [
  'attestation_requests_total',
  'attestation_failures_total',
  'rpc_requests_total',
  'rpc_duration_seconds',
  'attestation_verifications_total',
  'auth_requests_total',
  'auth_duration_seconds',
  'onchain_sync_lag_seconds',
  'key_dispatch_total',
  'image_cache_hits_total',
  'image_cache_misses_total',
  'rate_limited_total',
  'tls_handshakes_total',
  'rpc_cert_expiry_timestamp_seconds',
  'build_info',
];

/** What a server says whose certificate OpenSSL accepts under this root, for its name. */
function fetchTrusting(ca: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', servername: 'app.example.com', port, ca, agent: false };
    get(options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve(Buffer.concat(chunks).toString()));
    }).on('error', reject);
  });
}
