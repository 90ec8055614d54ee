/** What the processes of one service share without a word: nonces, and the count of refusals. */
import { writeFileSync } from 'node:fs';
import { ratlsReportData } from '@dstack-cloud/attestation';
import { fromHex } from '@dstack-cloud/encoding';
import { generateP256Key } from '@dstack-cloud/keys';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { callKms, errorOf, getPlain } from '../harness/call-kms.ts';
import { forgedIdentity } from '../harness/forged-certificate.ts';
import { getAppKey, type KmsLab, labWorkload, startKmsLab } from '../harness/kms-lab.ts';
import type { KmsProcess } from '../harness/kms-process.ts';
import { ALLOW, deny } from '../harness/policy-webhook.ts';
import { createEnclave, type Enclave, enclaveEvents } from '../harness/simulated-enclave.ts';

let lab: KmsLab;
let enclave: Enclave;
let kms: KmsProcess;

beforeAll(async () => {
  lab = await startKmsLab();
  enclave = await createEnclave();
  const nitroRoot = `${lab.directory}/nitro-root.pem`;
  writeFileSync(nitroRoot, enclave.rootPem);
  const host = await lab.host('two', {
    rpc: { workers: 2 },
    core: { attestation: { require_nonce: true, root_ca: { aws_nitro_enclave: nitroRoot } } },
  });
  kms = await host.serve();
}, 120_000);
afterAll(async () => lab?.stop());

/** Numbers of the workers that answered calls of a method since a line of the log. */
const workersOf = (method: string, since: number): unknown[] =>
  kms
    .lines()
    .slice(since)
    .filter((line) => line['method'] === method)
    .map((line) => line['worker']);

async function askWith(nonce?: Uint8Array) {
  const key = generateP256Key();
  const attestation = await enclave.attest({
    pcr: 7,
    reportData: ratlsReportData(key.spki),
    runtimeEvents: enclaveEvents(labWorkload('enclave').appId),
    ...(nonce && { nonce }),
  });
  return getAppKey(kms, await forgedIdentity(key, [attestation]));
}

async function freshNonce(): Promise<Uint8Array> {
  const { status, body } = await getPlain(kms.url, '/nonce');
  expect(status).toBe(200);
  return fromHex((JSON.parse(body) as { nonce: string }).nonce);
}

test('nonces-across-workers: whichever process gave a nonce, every one takes it', async () => {
  const since = kms.lines().length;
  for (let i = 0; i < 12; i++) {
    const nonce = await freshNonce();
    // Connections go round: so that now the giver is asked, now the other one.
    if (i % 2 === 1) await getPlain(kms.url, '/health');
    const answer = await askWith(nonce);
    expect(answer.status, answer.body).toBe(200);
  }
  await expect.poll(() => new Set(workersOf('GetAppKey', since)).size, { timeout: 10_000 }).toBe(2);
  expect(errorOf(await askWith())).toMatch(/no nonce of this KMS/);
  const forged = (await freshNonce()).map((byte, index) => (index === 20 ? byte ^ 1 : byte));
  expect(errorOf(await askWith(forged))).toMatch(/not made by this KMS/);
});

test('refusals-across-workers: the same refusal by two processes is one record', async () => {
  const size = async (): Promise<number> =>
    Number(
      (JSON.parse((await callKms(kms.url, 'GetAuditHead', {})).body) as { tree_size: number }).tree_size,
    );
  const identity = await lab.identity(kms, labWorkload('refused'));
  const before = await size();
  const since = kms.lines().length;
  lab.webhook.app = () => deny('Compose hash not allowed');
  for (let i = 0; i < 20; i++) expect((await getAppKey(kms, identity)).status).toBe(400);
  lab.webhook.app = () => ALLOW;
  expect((await getAppKey(kms, identity)).status).toBe(200);
  await expect.poll(() => new Set(workersOf('GetAppKey', since)).size, { timeout: 10_000 }).toBe(2);
  expect(await size()).toBe(before + 2);
});
