import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import {
  type EnvKeyName,
  generateP256Key,
  k256PublicKey,
  p256KeyPem,
  rootId,
  signEnvPublicKey,
  signNamedEnvPublicKey,
} from '@dstack-cloud/keys';
import { appLeaf, certificatePem, issuerOf, rootCa, rpcCertificate } from '@dstack-cloud/ra-tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fetchEnvKey } from './env-key.ts';

const ROOT = new Uint8Array(32).fill(1);
const OTHER = new Uint8Array(32).fill(2);
const APP_ID = '00112233445566778899aabbccddeeff00112233';
const KEY = fromHex('e33a1832c6562067ff8f844a61e51ad051f1180b66ec2551fb0251735f3ee90a');
const NOW = 1_760_000_000;

let server: Server;
let url: string;
let answer: unknown;
beforeEach(async () => {
  server = createServer((_request, response) => response.end(JSON.stringify(answer)));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

function signed(root: Uint8Array, timestamp: number, appId = APP_ID): object {
  return {
    public_key: toHex(KEY),
    timestamp,
    signature: toHex(signEnvPublicKey(root, fromHex(appId), KEY)),
    signature_v1: toHex(signEnvPublicKey(root, fromHex(appId), KEY, timestamp)),
  };
}

const NAME: EnvKeyName = { epoch: 3, rootId: rootId(k256PublicKey(ROOT)), isPresent: true };

/** As a key service answers whose application is at an epoch above 0. */
function named(signs: Partial<EnvKeyName> = {}, says: Partial<EnvKeyName> = signs): object {
  const key = { appId: fromHex(APP_ID), publicKey: KEY, timestamp: NOW };
  const answered = { ...NAME, ...says };
  return {
    public_key: toHex(KEY),
    timestamp: NOW,
    signature: '',
    signature_v1: '',
    key_epoch: answered.epoch,
    root_id: toHex(answered.rootId),
    is_present: answered.isPresent,
    signature_v2: toHex(signNamedEnvPublicKey(ROOT, key, { ...NAME, ...signs })),
  };
}

const fetchNow = (urls = [url]) =>
  fetchEnvKey({
    urls,
    appId: APP_ID,
    signerFor: () => toHex(k256PublicKey(ROOT)),
    now: new Date(NOW * 1000),
  });

describe('environment key of the KMS', () => {
  it('is accepted when the expected root signed it just now', async () => {
    answer = signed(ROOT, NOW - 10);
    expect(toHex((await fetchNow()).publicKey)).toBe(toHex(KEY));
  });

  it('is accepted by its name: the present one, of whatever epoch and root', async () => {
    answer = named();
    expect(toHex((await fetchNow()).publicKey)).toBe(toHex(KEY));
    answer = named({ rootId: new Uint8Array(20).fill(9) });
    expect(toHex((await fetchNow()).publicKey)).toBe(toHex(KEY));
    answer = { ...signed(ROOT, NOW), ...named({ epoch: 0 }) };
    expect(toHex((await fetchNow()).publicKey)).toBe(toHex(KEY));
  });

  it('asks the next KMS when one is down', async () => {
    answer = signed(ROOT, NOW);
    expect((await fetchNow(['http://127.0.0.1:9', url])).url).toBe(url);
  });

  it.each([
    ['key-signed-by-another-root', () => signed(OTHER, NOW)],
    ['key-for-another-app', () => signed(ROOT, NOW, '11'.repeat(20))],
    ['stale-signature', () => signed(ROOT, NOW - 301)],
    ['signature-from-the-future', () => signed(ROOT, NOW + 61)],
    ['legacy-signature-alone', () => ({ ...signed(ROOT, NOW), signature_v1: '' })],
    ['replaced-key', () => ({ ...signed(ROOT, NOW), public_key: '22'.repeat(32) })],
    ['replaced-time', () => ({ ...signed(ROOT, NOW - 400), timestamp: NOW })],
    ['older-key', () => named({ epoch: 2, isPresent: false })],
    [
      'older-key-said-to-be-present',
      () => named({ epoch: 2, isPresent: false }, { epoch: 2, isPresent: true }),
    ],
    ['older-key-said-to-be-another', () => named({ epoch: 2 }, { epoch: 3 })],
    ['key-of-another-root-than-said', () => named({ rootId: new Uint8Array(20).fill(9) }, {})],
    ['epoch-without-a-signature-over-it', () => ({ ...signed(ROOT, NOW), key_epoch: 1 })],
    [
      'signature-without-name-as-one-with',
      () => ({ ...named(), signature_v2: (signed(ROOT, NOW) as { signature_v1: string }).signature_v1 }),
    ],
    ['name-of-another-form', () => ({ ...named(), root_id: 'ab' })],
    ['epoch-of-another-form', () => ({ ...named(), key_epoch: 'three' })],
    ['no-answer', () => ({})],
    ['null', () => ({ public_key: null, signature_v1: null, timestamp: null })],
  ])('refuses %s', async (_name, make) => {
    answer = make();
    await expect(fetchNow()).rejects.toMatchObject({ code: 'kms_untrusted' });
  });

  it('does not turn to another KMS after a wrong signature', async () => {
    answer = signed(OTHER, NOW);
    await expect(fetchNow([url, url])).rejects.toMatchObject({ code: 'kms_untrusted' });
  });

  it('is not taken from an application that plays the KMS, whoever signed it', async () => {
    answer = signed(ROOT, NOW);
    const [root, key] = [generateP256Key(), generateP256Key()];
    const issuer = issuerOf(rootCa({ key: root, now: NOW }), root);
    const config = {
      subject: '127.0.0.1',
      subjectAltNames: ['127.0.0.1'],
      usageServerAuth: true,
      usageClientAuth: false,
      extQuote: false,
      extAppInfo: false,
    };
    const asked = async (cert: Uint8Array) => {
      const tls = createTlsServer(
        { key: p256KeyPem(key), cert: certificatePem(cert) },
        (_request, response) => response.end(JSON.stringify(answer)),
      );
      await new Promise<void>((resolve) => tls.listen(0, '127.0.0.1', resolve));
      try {
        return await fetchNow([`https://127.0.0.1:${(tls.address() as { port: number }).port}`]);
      } finally {
        tls.closeAllConnections();
        tls.close();
      }
    };
    const { spki } = key;
    const kms = await asked(rpcCertificate({ domain: '127.0.0.1', spki, issuer, now: NOW }));
    expect(toHex(kms.publicKey)).toBe(toHex(KEY));
    await expect(asked(appLeaf({ config, issuer, spki, now: NOW }))).rejects.toMatchObject({
      code: 'kms_unreachable',
      message: expect.stringContaining('for "app:custom", expected "kms:rpc"') as string,
    });
  });

  it('names every KMS that is down', async () => {
    await expect(fetchNow(['http://127.0.0.1:9'])).rejects.toMatchObject({ code: 'kms_unreachable' });
    await expect(fetchNow([])).rejects.toMatchObject({ code: 'kms_unreachable' });
  });
});
