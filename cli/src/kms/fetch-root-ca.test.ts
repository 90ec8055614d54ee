import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { parseCertificate } from '@dstack-cloud/attestation';
import { decodePem } from '@dstack-cloud/encoding';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { certificatePem, rootCa, tempCa } from '@dstack-cloud/ra-tls';
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { Sandbox } from '../testing.ts';

const PLACEHOLDER = 'put the root of the KMS here\n';
let box: Sandbox;
let server: Server;
let answer: unknown;
let root: string;

// Loaded once, outside of the time of the first test.
beforeAll(async () => {
  await import('../commands/measure.ts');
  await import('../enclave/prepare-enclave.ts');
  await import('./fetch-root-ca.ts');
}, 240_000);
beforeEach(async () => {
  box = new Sandbox();
  const key = generateP256Key();
  root = certificatePem(rootCa({ key, now: Math.floor(Date.now() / 1000) }));
  server = createServer({ key: p256KeyPem(key), cert: root }, (request, response) => {
    request.resume();
    response.end(JSON.stringify(answer));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  mkdirSync(box.path('app'));
  writeFileSync(box.path('app/root_ca.pem'), PLACEHOLDER);
  const nitro_config = { host: 'local', eif: 'none.eif', kms_url: `https://127.0.0.1:${port}` };
  writeFileSync(
    box.path('app.json'),
    JSON.stringify({ name: 'demo', platform: 'nitro', app_id: '00'.repeat(20), nitro_config }),
  );
});
afterEach(() => {
  server.close();
  box.remove();
});

const file = (): string => readFileSync(box.path('app/root_ca.pem'), 'utf8');

it('writes the root of the KMS, and prints the hash that its operator can confirm', async () => {
  answer = { ca_cert: root };
  const { stderr } = await box.run('measure', '--fetch-root-ca');
  const { spki } = parseCertificate(decodePem(root, 'CERTIFICATE'));
  expect(stderr).toContain(`SHA-256 of its SPKI: ${createHash('sha256').update(spki).digest('hex')}`);
  expect(file()).toBe(root);
});

it.each<[string, () => unknown, string]>([
  ['no root', () => ({}), 'it is missing'],
  ['no JSON object', () => null, 'it is missing'],
  ['a text that is no certificate', () => ({ ca_cert: 'hello' }), 'cannot be pinned'],
  ['too much', () => ({ ca_cert: root.repeat(200) }), 'cannot be pinned'],
  [
    'the CA whose key is public',
    () => ({
      ca_cert: certificatePem(tempCa({ key: generateP256Key(), now: Math.floor(Date.now() / 1000) })),
    }),
    'cannot be pinned',
  ],
])('%s in the answer leaves the file as it was', async (_, given, sentence) => {
  answer = given();
  const { code, stderr } = await box.run('measure', '--fetch-root-ca');
  expect([code, stderr]).toEqual([1, expect.stringContaining(sentence)]);
  expect(file()).toBe(PLACEHOLDER);
});

it('a KMS that does not answer leaves the file as it was', async () => {
  server.close();
  server.closeAllConnections();
  const { code, stderr } = await box.run('measure', '--fetch-root-ca');
  expect([code, stderr]).toEqual([1, expect.stringContaining('gives no root certificate')]);
  expect(file()).toBe(PLACEHOLDER);
});

it('another platform has no such file', async () => {
  writeFileSync(box.path('app.json'), JSON.stringify({ name: 'demo', platform: 'gcp' }));
  expect((await box.run('measure', '--fetch-root-ca')).stderr).toContain(
    '--fetch-root-ca is for platform nitro',
  );
});
