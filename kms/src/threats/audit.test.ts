/** What is refused is on record, whoever is refused, and refusals cannot fill the disk. */
import { createHash } from 'node:crypto';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ratlsReportData } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { generateP256Key } from '@dstack-cloud/keys';
import { CONFIRM_WORD, encodeCsrV2, signCsr } from '@dstack-cloud/ra-tls';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { RunningKms } from '../start-kms.ts';
import { call } from '../test/ask.ts';
import { LAB_NOW, type Lab, openLab } from '../test/lab.ts';
import { writeRotatedDirectory } from '../test/rotated-directory.ts';

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

type Line = Record<'event' | 'decision' | 'reason' | 'app_id' | 'repeats', unknown>;
const records = async ({ kms: { audit } }: RunningKms): Promise<Line[]> =>
  (await audit.records(0, 1000)).map((line) => JSON.parse(line) as Line);
const deny = (reason: string) => ({ body: { isAllowed: false, gatewayAppId: '', reason } });
const OWN_APP = 'c1'.repeat(20);

test('self-refusal-is-recorded: a KMS that its own policy refuses leaves a record of each refusal', async () => {
  // Once it knew itself: the record of an open method then says which KMS was refused.
  expect((await call(kms.main.port, 'GetTempCaCert')).status).toBe(200);
  lab.webhook.policy = { kms: deny('KMS aggregated MR not allowed') };
  const client = lab.client(lab.guest());
  for (const [method, input] of [
    ['GetAppKey', { api_version: 1 }],
    ['GetKmsKey', {}],
    ['GetTempCaCert', {}],
    ['GetAppEnvEncryptPubKey', { app_id: '11'.repeat(20) }],
  ] as const) {
    const { status, json } = await call(kms.main.port, method, input, { client });
    expect([status, json['error']]).toEqual([
      400,
      'KMS self authorization failed: KMS is not allowed: KMS aggregated MR not allowed',
    ]);
  }
  const found = (await records(kms)).map(({ event, decision, app_id }) => [event, decision, app_id]);
  expect(found).toEqual([
    ['app-key', 'denied', '11'.repeat(20)],
    ['kms-key', 'denied', '11'.repeat(20)],
    ['temp-ca', 'denied', OWN_APP],
    ['env-pubkey', 'denied', OWN_APP],
  ]);
});

test('gate-refusal-is-recorded: a platform whose keys are switched off', async () => {
  const strict = await lab.start({ core: { attestation: { accepted_tcb_statuses: [] } } });
  await call(strict.main.port, 'GetAppKey', { api_version: 1 }, { client: lab.client(lab.guest()) });
  expect(await records(strict)).toMatchObject([{ event: 'app-key', decision: 'denied' }]);
});

test('refusal-flood: the same refusal a hundred times is one record and a count; a release is always its own', async () => {
  const flooded = await lab.start();
  const client = lab.client(lab.guest());
  const ask = () => call(flooded.main.port, 'GetAppKey', { api_version: 1 }, { client });
  lab.webhook.policy = { app: deny('Compose hash not allowed') };
  for (let i = 0; i < 5; i++) await Promise.all(Array.from({ length: 20 }, ask));
  lab.webhook.policy = {};
  await ask();
  await ask();
  expect((await records(flooded)).map(({ decision }) => decision)).toEqual(['denied', 'allowed', 'allowed']);
  const directory = join(flooded.kms.config.core.cert_dir, 'audit');
  const bytes = () =>
    readdirSync(directory).reduce((sum, name) => sum + statSync(join(directory, name)).size, 0);
  const before = bytes();
  await flooded.close();
  // The count comes at the end of its minute, or of the process.
  expect(bytes()).toBeGreaterThan(before);
  const again = await lab.start({ directory: flooded.kms.config.core.cert_dir });
  expect((await records(again)).map(({ repeats }) => repeats)).toEqual([undefined, undefined, undefined, 99]);
});

test('release-is-named: one record says everything that left with the answer', async () => {
  const directory = join(lab.directory, 'rotated');
  const keys = await writeRotatedDirectory(directory, 2, LAB_NOW);
  const [active, middle, oldest] = [keys, ...keys.history];
  const released = await lab.start({ directory });
  const app = '11'.repeat(20);
  const client = lab.client(lab.guest());
  const say = { keyEpoch: 2, minKeyEpoch: 1, previousKeyRoots: [oldest!.id] };
  lab.webhook.policy = { app: { body: { isAllowed: true, gatewayAppId: '', reason: '', ...say } } };
  const ask = async (method: string, input: object) => {
    const { status, json } = await call(released.main.port, method, input, { client });
    expect([status, json['error']]).toEqual([200, undefined]);
  };
  await ask('GetAppKey', { api_version: 1, key_epoch: 1, root_id: oldest!.id });
  await ask('GetAppKey', { api_version: 1 });
  await ask('GetKey', { name: 'wallet/main' });
  await ask('GetKmsKey', { accept_history: true });
  await ask('GetKmsKey', {});
  const key = generateP256Key();
  const names = [
    'app.example.com',
    ...Array.from({ length: 99 }, (_, n) => `${'x'.repeat(240)}${n}.example`),
  ];
  const csr = encodeCsrV2({
    confirm: CONFIRM_WORD,
    pubkey: key.spki,
    config: {
      subject: 'app.example.com',
      subjectAltNames: names,
      usageServerAuth: true,
      usageClientAuth: false,
      extQuote: false,
      extAppInfo: false,
    },
    attestation: lab.guest().attest(ratlsReportData(key.spki)),
  });
  await ask('SignCert', { api_version: 2, csr: toHex(csr), signature: toHex(signCsr(csr, key)) });

  const found = await released.kms.audit.records(0, 100);
  const lines = found.map((line) => JSON.parse(line) as Record<string, unknown>);
  const releases = lines.filter(({ event }) => event !== 'root-rotation');
  expect(releases).toMatchObject([
    {
      event: 'app-key',
      app_id: app,
      key_root: active!.id,
      key_epoch: 2,
      previous_keys: [`${oldest!.id}:1`, `${oldest!.id}:2`, `${active!.id}:1`],
    },
    { event: 'app-key', key_root: active!.id, key_epoch: 2 },
    { event: 'get-key', key_name: 'wallet/main' },
    { event: 'kms-key', root_keys: [active!.id, middle!.id, oldest!.id] },
    { event: 'kms-key', root_keys: [active!.id] },
    { event: 'sign-cert', certificate_key: createHash('sha256').update(key.spki).digest('hex') },
  ]);
  expect(releases[1]).not.toHaveProperty('previous_keys');
  const certified = releases[5]!['certificate_names'] as string[];
  expect(certified.slice(0, 3)).toEqual(['app.example.com', 'app.example.com', names[1]]);
  expect(certified.at(-1)).toMatch(/^and \d+ more$/);
  expect(Math.max(...found.map((line) => line.length))).toBeLessThan(16 * 1024);
});

test('refusal-flood-size: no refusal writes more than 4 KiB, whatever the policy says of it', async () => {
  const wordy = await lab.start();
  lab.webhook.policy = { app: deny('\u0001'.repeat(5_000)) };
  await call(wordy.main.port, 'GetAppKey', { api_version: 1 }, { client: lab.client(lab.guest()) });
  const [line] = await wordy.kms.audit.records(0, 1);
  expect(line).toContain('"denied"');
  expect(Buffer.byteLength(line!)).toBeLessThan(4096);
});
