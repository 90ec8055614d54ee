/** Which keys are released after a change of root. */
import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { parseCertificate, ratlsReportData } from '@dstack-cloud/attestation';
import { decodePem, fromHex, toHex } from '@dstack-cloud/encoding';
import {
  deriveAppCaKey,
  deriveAppKeys,
  deriveEnvPublicKey,
  generateP256Key,
  getKey,
  verifyEnvPublicKey,
} from '@dstack-cloud/keys';
import { CONFIRM_WORD, encodeCsrV2, signCsr } from '@dstack-cloud/ra-tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { KmsKeys, Root } from '../key-directory/kms-keys.ts';
import { loadKeys } from '../key-directory/load-keys.ts';
import type { RunningKms } from '../start-kms.ts';
import { type ClientIdentity, call } from '../test/ask.ts';
import { LAB_NOW, type Lab, openLab } from '../test/lab.ts';
import { writeRotatedDirectory } from '../test/rotated-directory.ts';
import { unknownRoots } from './unknown-roots.ts';

const appId = new Uint8Array(20).fill(0x11);
const instanceId = new Uint8Array(20).fill(0x33);
let lab: Lab;
let directory: string;
let keys: KmsKeys;
let active: Root;
let middle: Root;
let oldest: Root;
let kms: RunningKms;
let client: ClientIdentity;
beforeAll(async () => {
  lab = await openLab();
  directory = join(lab.directory, 'rotated');
  await writeRotatedDirectory(directory, 2, LAB_NOW);
  keys = await loadKeys(directory, { now: LAB_NOW });
  [active, middle, oldest] = [keys, ...keys.history] as Root[] as [Root, Root, Root];
  kms = await lab.start({ directory });
  client = lab.client(lab.guest());
});
afterAll(() => lab.close());

type Said = {
  keyEpoch?: number;
  minKeyEpoch?: number;
  keyRoot?: string | null;
  previousKeyRoots?: string[] | null;
};
const say = (said: Said = {}): void => {
  lab.webhook.policy = { app: { body: { isAllowed: true, gatewayAppId: 'any', reason: '', ...said } } };
};
type Keys = { key_epoch?: number; root_id?: string; disk_crypt_key: string; k256_signature: string };
type AppKeys = Keys & { ca_cert: string; previous_keys?: Keys[]; code?: string; error?: string };
const getAppKey = async (held: { key_epoch?: number; root_id?: string } = {}, port = kms.main.port) =>
  (await call(port, 'GetAppKey', { api_version: 1, ...held }, { client })).json as unknown as AppKeys;
const diskKey = (root: Root, epoch = 0) =>
  toHex(deriveAppKeys(root.roots, appId, instanceId, epoch).diskCryptKey);
const spkiOf = (pem: string) => parseCertificate(decodePem(pem, 'CERTIFICATE')).spki;

describe('retired-root-not-released', () => {
  test('without a word of the policy everybody gets keys of the active root, and nothing of the others', async () => {
    say();
    const plain = await getAppKey();
    expect(plain).toMatchObject({ root_id: active.id, disk_crypt_key: diskKey(active) });
    expect(plain.previous_keys).toBeUndefined();
    for (const root of [middle, oldest]) {
      const refused = await getAppKey({ key_epoch: 0, root_id: root.id });
      expect(refused.code).toBe('KEY_NOT_FOUND');
      expect(refused.error).toContain(`Keys of root ${root.id} are not released`);
      expect(JSON.stringify(refused)).not.toContain('crypt_key');
    }
    // Nor by an id that is none, or of the length of none.
    for (const root_id of ['00'.repeat(20), '', active.id.slice(2)]) {
      expect((await getAppKey({ key_epoch: 0, root_id })).code).toBe('KEY_NOT_FOUND');
    }
  });

  test('only what the policy lists is released, to who asks for it, until it is no longer listed', async () => {
    say({ previousKeyRoots: [middle.id] });
    const { previous_keys: previous, ...present } = await getAppKey({ key_epoch: 0, root_id: middle.id });
    expect(present.disk_crypt_key).toBe(diskKey(active));
    expect(previous).toMatchObject([{ key_epoch: 0, root_id: middle.id, disk_crypt_key: diskKey(middle) }]);
    expect((await getAppKey()).previous_keys).toBeUndefined();
    expect((await getAppKey({ key_epoch: 0, root_id: active.id })).previous_keys).toBeUndefined();
    expect((await getAppKey({ key_epoch: 0, root_id: oldest.id })).code).toBe('KEY_NOT_FOUND');
    say({ previousKeyRoots: [] });
    expect((await getAppKey({ key_epoch: 0, root_id: middle.id })).code).toBe('KEY_NOT_FOUND');
  });

  test('a denial stays a denial, whatever it says of roots', async () => {
    lab.webhook.policy = {
      app: { body: { isAllowed: false, gatewayAppId: '', reason: 'no', previousKeyRoots: [oldest.id] } },
    };
    expect((await getAppKey({ key_epoch: 0, root_id: oldest.id })).error).toContain('Boot denied: no');
  });

  test('roots and epochs together: from what is held up to the present, the oldest first', async () => {
    say({ keyEpoch: 2, minKeyEpoch: 1, previousKeyRoots: [middle.id, oldest.id] });
    const { previous_keys: previous } = await getAppKey({ key_epoch: 1, root_id: oldest.id });
    expect(previous?.map(({ key_epoch: epoch, root_id: root }) => [root, epoch])).toEqual([
      [oldest.id, 1],
      [oldest.id, 2],
      [middle.id, 1],
      [middle.id, 2],
      [active.id, 1],
    ]);
    expect(previous?.[1]?.disk_crypt_key).toBe(diskKey(oldest, 2));
    expect((await getAppKey({ key_epoch: 0, root_id: oldest.id })).code).toBe('KEY_NOT_FOUND');
    expect((await getAppKey({ key_epoch: 3, root_id: oldest.id })).code).toBe('KEY_NOT_FOUND');
  });
});

describe('an application held at a root', () => {
  test('gets its keys, its CA and its environment key from there', async () => {
    say({ keyRoot: oldest.id });
    const held = await getAppKey({ key_epoch: 0, root_id: oldest.id });
    expect(held).toMatchObject({ root_id: oldest.id, disk_crypt_key: diskKey(oldest) });
    expect(held.previous_keys).toBeUndefined();
    // What connections to the KMS chain to is the active root all the same.
    expect(spkiOf(held.ca_cert)).toEqual(active.rootCa.key.spki);
    const { json } = await call(kms.main.port, 'GetAppEnvEncryptPubKey', { app_id: toHex(appId) });
    const publicKey = fromHex(String(json['public_key']));
    expect(publicKey).toEqual(deriveEnvPublicKey(oldest.roots, appId));
    expect(json['root_id']).toBe(oldest.id);
    // The active root speaks for the KMS.
    const signer = verifyEnvPublicKey({ appId, publicKey, signature: fromHex(String(json['signature'])) });
    expect(signer).toEqual(active.k256Pubkey);
    const other = { app_id: toHex(appId), root_id: middle.id };
    expect((await call(kms.main.port, 'GetAppEnvEncryptPubKey', other)).json['code']).toBe('KEY_NOT_FOUND');
  });

  test('has its certificates signed by its CA under that root, and its named keys derived there', async () => {
    const guest = lab.guest();
    const key = generateP256Key();
    const csr = encodeCsrV2({
      confirm: CONFIRM_WORD,
      pubkey: key.spki,
      config: {
        subject: 'app.example.com',
        subjectAltNames: [],
        usageServerAuth: true,
        usageClientAuth: false,
        extQuote: false,
        extAppInfo: false,
      },
      attestation: guest.attest(ratlsReportData(key.spki)),
    });
    const request = { api_version: 2, csr: toHex(csr), signature: toHex(signCsr(csr, key)) };
    for (const root of [active, oldest]) {
      say({ keyRoot: root.id, keyEpoch: 1 });
      const { json } = await call(kms.main.port, 'SignCert', request);
      const [leaf, ca, top] = (json['certificate_chain'] as string[]).map((pem) => new X509Certificate(pem));
      expect(new Uint8Array(top!.publicKey.export({ type: 'spki', format: 'der' }))).toEqual(
        root.rootCa.key.spki,
      );
      expect([leaf!.verify(ca!.publicKey), ca!.verify(top!.publicKey), top!.verify(top!.publicKey)]).toEqual([
        true,
        true,
        true,
      ]);
      const caKey = deriveAppCaKey(root.roots, appId, 1).spki;
      expect(new Uint8Array(ca!.publicKey.export({ type: 'spki', format: 'der' }))).toEqual(caKey);
      const named = await call(kms.main.port, 'GetKey', { name: 'db' }, { client });
      const { k256Key } = deriveAppKeys(root.roots, appId, instanceId, 1);
      expect(named.json['key']).toBe(toHex(getKey(k256Key, 'db', '', 'secp256k1').key));
    }
  });

  test('gets nothing when this KMS has not that root, and no answer of another form', async () => {
    say({ keyRoot: 'ab'.repeat(20) });
    const refused = await getAppKey();
    expect([refused.code, refused.error]).toEqual([
      'KEY_NOT_FOUND',
      `App not allowed: The application is held at root ${'ab'.repeat(20)}, which this KMS does not have`,
    ]);
    for (const keyRoot of ['', 'latest', oldest.id.slice(2)]) {
      say({ keyRoot });
      expect((await getAppKey()).error).toContain('auth api');
    }
    say({ keyRoot: `0x${oldest.id.toUpperCase()}`, previousKeyRoots: null });
    expect((await getAppKey()).root_id).toBe(oldest.id);
  });

  test('by the configuration: of the app, else of all; the policy source comes first', async () => {
    const configured = await lab.start({
      directory: join(lab.directory, 'configured'),
      keys: false,
      core: {
        key_roots: { '*': { root: oldest.id }, [`0x${toHex(appId)}`]: { previous: [middle.id] } },
        onboard: { auto_bootstrap_domain: 'localhost' },
      },
    });
    const place = { ...configured.kms, keys } as typeof configured.kms;
    const { keyAssignment } = await import('./key-assignment.ts');
    expect(keyAssignment(place, appId, {})).toMatchObject({
      root: { id: active.id },
      previousRoots: [{ id: middle.id }],
    });
    expect(keyAssignment(place, new Uint8Array(20).fill(2), {}).root.id).toBe(oldest.id);
    const said = keyAssignment(place, appId, { keyRoot: oldest.id });
    expect([said.root.id, said.previousRoots]).toEqual([oldest.id, []]);
    expect(unknownRoots(configured.kms.config, configured.kms.keys)).toEqual([
      { app: '*', root: oldest.id },
      { app: toHex(appId), root: middle.id },
    ]);
    expect(unknownRoots(configured.kms.config, keys)).toEqual([]);
    // Another KMS is no application: it gets the root of this one.
    const { json } = await call(
      configured.main.port,
      'GetKmsKey',
      {},
      { client: lab.client(lab.guest({ appId: new Uint8Array(20).fill(5) })) },
    );
    expect(json['keys']).toHaveLength(1);
    const held = lab.client(lab.guest({ appId: new Uint8Array(20).fill(5) }));
    const refused = await call(configured.main.port, 'GetAppKey', {}, { client: held });
    expect(refused.json['code']).toBe('KEY_NOT_FOUND');
    // Its own only root is not the one that is configured: nobody gets anything.
    say();
    expect((await getAppKey({}, configured.main.port)).previous_keys).toBeUndefined();
  });
});

describe('history-only-when-asked', () => {
  test('GetKmsKey gives the active root alone, the history to who accepts it', async () => {
    const ask = async (input: object) => {
      const { json } = await call(kms.main.port, 'GetKmsKey', input, { client });
      return (json['keys'] as { k256_key: string }[]).map(({ k256_key: key }) => key);
    };
    const all = [active, middle, oldest].map(({ roots }) => toHex(roots.k256));
    expect(await ask({})).toEqual(all.slice(0, 1));
    expect(await ask({ accept_history: false })).toEqual(all.slice(0, 1));
    expect(await ask({ accept_history: true })).toEqual(all);
    expect((await call(kms.main.port, 'GetKmsKey', { accept_history: true })).json['error']).toBe(
      'No attestation provided',
    );
  });

  test('GetMeta names retired roots by their public keys; a KMS without any has no new member', async () => {
    const { json } = await call(kms.main.port, 'GetMeta');
    expect(json['root_history']).toEqual(
      [middle, oldest].map(({ rootCa, k256Pubkey }) => ({
        ca_pubkey: toHex(rootCa.key.spki),
        k256_pubkey: toHex(k256Pubkey),
      })),
    );
    const fresh = await lab.start();
    expect((await call(fresh.main.port, 'GetMeta')).json).not.toHaveProperty('root_history');
    say();
    expect(await getAppKey({}, fresh.main.port)).not.toHaveProperty('root_id');
    expect(await getAppKey({ root_id: fresh.kms.keys.id }, fresh.main.port)).toHaveProperty('root_id');
  });
});
