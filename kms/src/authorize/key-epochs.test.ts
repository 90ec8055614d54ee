import { fromHex, toHex } from '@dstack-cloud/encoding';
import { deriveAppKeys, hkdf, verifyEnvPublicKey } from '@dstack-cloud/keys';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningKms } from '../start-kms.ts';
import { type ClientIdentity, call } from '../test/ask.ts';
import { type Lab, openLab } from '../test/lab.ts';
import { olderEpochs } from './key-epochs.ts';

const appId = new Uint8Array(20).fill(0x11);
let lab: Lab;
let kms: RunningKms;
let client: ClientIdentity;
beforeAll(async () => {
  lab = await openLab();
  kms = await lab.start();
  client = lab.client(lab.guest());
});
afterAll(() => lab.close());

const epoch = (keyEpoch?: number, minKeyEpoch?: number) => {
  lab.webhook.policy = {
    app: { body: { isAllowed: true, gatewayAppId: 'any', reason: '', keyEpoch, minKeyEpoch } },
  };
};
const getAppKey = (held?: number, port = kms.main.port) =>
  call(port, 'GetAppKey', { api_version: 1, ...(held === undefined ? {} : { key_epoch: held }) }, { client });

test('epoch 0 is what was always derived, and its answer has no new member', async () => {
  epoch();
  const plain = await getAppKey();
  expect(Object.keys(plain.json)).toHaveLength(8);
  epoch(0, 0);
  expect((await getAppKey()).json).toEqual(plain.json);
  expect((await getAppKey(0)).json).toEqual({ ...plain.json, key_epoch: 0 });
});

test('a rotation: the guest that holds epoch 0 gets epoch 2 and what lies between, once', async () => {
  const { roots } = kms.kms.keys;
  epoch(2, 0);
  const { json } = await getAppKey(0);
  const now = deriveAppKeys(roots, appId, new Uint8Array(20).fill(0x33), 2);
  expect(json).toMatchObject({
    key_epoch: 2,
    k256_key: toHex(now.k256Key),
    disk_crypt_key: toHex(now.diskCryptKey),
  });
  const context = fromHex('65706f63683a00000002');
  expect(json['k256_key']).toBe(toHex(hkdf(roots.k256, [appId, 'app-key', context], 32)));
  const previous = json['previous_keys'] as { key_epoch: number; disk_crypt_key: string }[];
  expect(previous.map(({ key_epoch: e }) => e)).toEqual([0, 1]);
  epoch(0);
  expect(previous[0]!.disk_crypt_key).toBe((await getAppKey()).json['disk_crypt_key']);
  epoch(2, 0);
  expect((await getAppKey(2)).json['previous_keys']).toBeUndefined();
  expect((await getAppKey()).json).toMatchObject({ key_epoch: 2 });
});

test('old epochs are released only while the policy lets them', async () => {
  epoch(2, 1);
  expect((await getAppKey(0)).json).toMatchObject({ code: 'KEY_NOT_FOUND' });
  expect((await getAppKey(1)).status).toBe(200);
  epoch(2);
  expect((await getAppKey(1)).json).toMatchObject({ code: 'KEY_NOT_FOUND' });
  expect((await getAppKey(3)).json).toMatchObject({ code: 'KEY_NOT_FOUND' });
});

test('epochs from the configuration, for policies that know none', async () => {
  const configured = await lab.start({
    core: { key_epochs: { [`0x${toHex(appId)}`]: { epoch: 1, min: 0 } } },
  });
  epoch();
  const { json } = await getAppKey(0, configured.main.port);
  expect([json['key_epoch'], (json['previous_keys'] as unknown[]).length]).toEqual([1, 1]);
});

test('the environment key of an epoch is another one, and without one it is that of the present epoch', async () => {
  epoch(2, 0);
  await getAppKey();
  const ask = async (keyEpoch?: number) =>
    (await call(kms.main.port, 'GetAppEnvEncryptPubKey', { app_id: toHex(appId), key_epoch: keyEpoch })).json[
      'public_key'
    ];
  expect(await ask(1)).not.toBe(await ask());
  expect(await ask(2)).toBe(await ask());
  expect(await ask(0)).not.toBe(await ask());
  // A source that says nothing leaves it to the configuration.
  epoch();
  await getAppKey();
  expect(await ask()).toBe(await ask(0));
});

describe('env-key-epochs', () => {
  const ask = async (more: object = {}) =>
    (await call(kms.main.port, 'GetAppEnvEncryptPubKey', { app_id: toHex(appId), ...more })).json;
  /** Who signed the name that an answer gives its key. */
  const signerOf = (json: Record<string, unknown>) => {
    const bytes = (member: string) => fromHex(String(json[member]));
    return verifyEnvPublicKey({
      appId,
      publicKey: bytes('public_key'),
      signature: bytes('signature_v2'),
      timestamp: Number(json['timestamp']),
      now: Number(json['timestamp']),
      name: {
        epoch: Number(json['key_epoch']),
        rootId: bytes('root_id'),
        isPresent: json['is_present'] === true,
      },
    });
  };

  test('only the epochs from the oldest that is released up to the present one are served', async () => {
    epoch(3, 1);
    await getAppKey();
    const codes = [];
    for (const key_epoch of [0, 1, 2, 3, 4, 0xffff_ffff]) codes.push((await ask({ key_epoch }))['code']);
    expect(codes).toEqual([
      'KEY_NOT_FOUND',
      undefined,
      undefined,
      undefined,
      'KEY_NOT_FOUND',
      'KEY_NOT_FOUND',
    ]);
    epoch(3);
    await getAppKey();
    expect((await ask({ key_epoch: 2 }))['code']).toBe('KEY_NOT_FOUND');
  });

  test('the answer names the key and signs its name, and nothing else says which key it is', async () => {
    epoch(1, 0);
    await getAppKey();
    const present = await ask();
    expect(present).toMatchObject({ key_epoch: 1, is_present: true, signature: '', signature_v1: '' });
    expect(present).toEqual(await ask({ with_name: true, key_epoch: 1 }));
    const older = await ask({ key_epoch: 0 });
    // It may have leaked: what clients of old believe is not said of it.
    expect(older).toMatchObject({ key_epoch: 0, is_present: false, signature: '', signature_v1: '' });
    for (const json of [present, older]) expect(signerOf(json)).toEqual(kms.kms.keys.k256Pubkey);
    expect(signerOf({ ...older, is_present: true })).not.toEqual(kms.kms.keys.k256Pubkey);
    expect(signerOf({ ...older, key_epoch: 1 })).not.toEqual(kms.kms.keys.k256Pubkey);
  });

  test('an application at epoch 0 is answered as ever, and by name when it is asked for', async () => {
    epoch();
    await getAppKey();
    const plain = await ask();
    expect(Object.keys(plain)).toEqual(['public_key', 'signature', 'timestamp', 'signature_v1']);
    const named = await ask({ with_name: true });
    expect(named).toMatchObject({ ...plain, key_epoch: 0, is_present: true });
    expect(signerOf(named)).toEqual(kms.kms.keys.k256Pubkey);
  });
});

test('a migration is bounded', () => {
  expect(() => olderEpochs({ current: 100, oldest: 0 }, 1)).toThrow('more than 16 epochs old');
  expect(olderEpochs({ current: 3, oldest: 0 }, 1)).toEqual([1, 2]);
});
