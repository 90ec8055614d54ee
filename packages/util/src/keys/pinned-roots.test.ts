import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateP256Key } from '@dstack-cloud/keys';
import { certificatePem, issuerOf, rootCa, rpcCertificate, tempCa } from '@dstack-cloud/ra-tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readPinnedRoots } from './pinned-roots.ts';

const now = Math.floor(Date.now() / 1000);
const root = generateP256Key();
const temporary = generateP256Key();
const rootDer = rootCa({ key: root, now });
const rootPem = certificatePem(rootDer);
const temporaryPem = certificatePem(tempCa({ key: temporary, now }));
const issuer = issuerOf(rootDer, root);
const leafPem = certificatePem(rpcCertificate({ issuer, now, domain: 'kms.example', spki: temporary.spki }));

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'pins-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

const pinned = async (text: string): Promise<Uint8Array[]> => {
  const path = join(directory, 'root_ca.pem');
  writeFileSync(path, text);
  return await readPinnedRoots(path);
};

test('the root of the KMS is pinned, alone and in a bundle', async () => {
  expect(await pinned(rootPem)).toEqual([root.spki]);
  expect(await pinned(`# of the KMS\n${temporaryPem}${rootPem}`)).toEqual([root.spki]);
});

test('the CA whose key is public is never a root', async () => {
  await expect(pinned(temporaryPem)).rejects.toThrow(/only the CA of temporary client certificates/);
  expect(await pinned(temporaryPem + rootPem)).not.toContainEqual(temporary.spki);
});

test.each([
  ['the placeholder', '-----PLACEHOLDER-----\n', /still the placeholder/],
  ['nothing', '', /still the placeholder/],
  ['a leaf', leafPem, /certificate that is not a CA certificate/],
  ['another label', rootPem.replaceAll('CERTIFICATE', 'TRUSTED CERTIFICATE'), /still the placeholder/],
  ['a broken certificate', rootPem.replace(/[A-Za-z]{8}\n/, '\n'), /not a PEM file of certificates/],
])('%s is refused by its own sentence', async (_, text, message) => {
  await expect(pinned(text)).rejects.toThrow(message);
});
