/** What is refused is on record, whoever is refused, and refusals cannot fill the disk. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { RunningKms } from '../start-kms.ts';
import { call } from '../test/ask.ts';
import { type Lab, openLab } from '../test/lab.ts';

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

test('refusal-flood-size: no refusal writes more than 4 KiB, whatever the policy says of it', async () => {
  const wordy = await lab.start();
  lab.webhook.policy = { app: deny('\u0001'.repeat(5_000)) };
  await call(wordy.main.port, 'GetAppKey', { api_version: 1 }, { client: lab.client(lab.guest()) });
  const [line] = await wordy.kms.audit.records(0, 1);
  expect(line).toContain('"denied"');
  expect(Buffer.byteLength(line!)).toBeLessThan(4096);
});
