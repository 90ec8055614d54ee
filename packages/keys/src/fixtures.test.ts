import { fromHex, toHex, utf8, utf8Text } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import { deriveAppKeys, deriveEnvPublicKey } from './app-keys.ts';
import { appKeysFromSeed } from './app-keys-from-seed.ts';
import { deriveP256Key } from './derive.ts';
import { signEnvPublicKey, verifyEnvPublicKey } from './env-public-key.ts';
import { getKey, verifySignatureChain } from './get-key.ts';
import { k256PublicKey } from './k256.ts';
import { p256KeyPem } from './p256-key.ts';
import { decryptEnv, sealEnv } from './sealed-env.ts';
import { signData, verifyData } from './sign-data.ts';
import { x25519PublicKey } from './x25519.ts';

interface GetKeyCase {
  request: { path: string; purpose: string; algorithm: string };
  public_key: string;
  response: { key: string; signature_chain?: string[]; signature_chain_0?: string };
}

interface SignCase {
  request: { algorithm: string; data: string };
  response: { signature: string; signature_chain: string[]; public_key: string };
}

interface SimulatorExpected {
  app_root: Record<string, string>;
  info: { app_id: string };
  get_key: GetKeyCase[];
  sign: SignCase[];
  tappd_derive_key: Array<{ path: string; scalar: string; public_key_uncompressed: string; key_pem: string }>;
  env_encryption: Record<string, string>;
  env_decrypt_known_answer: Record<string, string>;
  app_keys_from_seed: Record<string, string>;
  dummy_root_vectors: { app_root_private: string; get_key: GetKeyCase[] };
  verify_env_encrypt_public_key: { v1_example: Record<string, string> };
}

describeWithFixtures('simulator of the original', 'simulator/expected.json', () => {
  const expected = fixtureJson<SimulatorExpected>('simulator/expected.json');
  const appRoot = fromHex(expected.app_root['k256_private']!);
  const kmsPublicKey = fromHex(expected.app_root['kms_root_k256_public_compressed']!);
  const appId = fromHex(expected.info.app_id);

  it.each(expected.get_key)('GetKey $request', ({ request, public_key, response }) => {
    const derived = getKey(appRoot, request.path, request.purpose, request.algorithm);
    expect(toHex(derived.key)).toBe(response.key);
    expect(toHex(derived.publicKey)).toBe(public_key);
    expect(toHex(derived.signature)).toBe(response.signature_chain![0]);
    const signatureChain = response.signature_chain!.map((link) => fromHex(link));
    const claim = {
      publicKey: derived.publicKey,
      purpose: request.purpose,
      signatureChain,
      appId,
      kmsPublicKey,
    };
    expect(toHex(verifySignatureChain(claim))).toBe(expected.app_root['k256_public_compressed']);
  });

  it.each(expected.dummy_root_vectors.get_key)('GetKey with the published root, $request', (vector) => {
    const { path, purpose, algorithm } = vector.request;
    const derived = getKey(fromHex(expected.dummy_root_vectors.app_root_private), path, purpose, algorithm);
    expect(toHex(derived.publicKey)).toBe(vector.public_key);
    expect(toHex(derived.key)).toBe(vector.response.key);
    expect(toHex(derived.signature)).toBe(vector.response.signature_chain_0);
  });

  it.each(expected.sign)('Sign $request.algorithm', ({ request, response }) => {
    const derived = getKey(appRoot, 'vms', 'signing', request.algorithm.replace('_prehashed', ''));
    const signature = signData(request.algorithm, derived.key, fromHex(request.data));
    expect(toHex(signature)).toBe(response.signature);
    expect(toHex(derived.publicKey)).toBe(response.public_key);
    expect(toHex(derived.signature)).toBe(response.signature_chain[1]);
    expect(verifyData(request.algorithm, fromHex(request.data), signature, derived.publicKey)).toBe(true);
  });

  it.each(expected.tappd_derive_key)(
    'DeriveKey $path',
    ({ path, scalar, public_key_uncompressed, key_pem }) => {
      const key = deriveP256Key(appRoot, [path]);
      expect(toHex(key.scalar)).toBe(scalar);
      expect(toHex(key.publicPoint)).toBe(public_key_uncompressed);
      expect(p256KeyPem(key)).toBe(key_pem);
    },
  );

  it('sealed environment', () => {
    const vector = expected.env_encryption;
    const secret = fromHex(vector['env_crypt_key']!);
    const options = { ephemeral: fromHex(vector['ephemeral_private']!), iv: fromHex(vector['iv']!) };
    expect(toHex(x25519PublicKey(secret))).toBe(vector['x25519_public_key']);
    const sealed = sealEnv(utf8(vector['plaintext_utf8']!), fromHex(vector['x25519_public_key']!), options);
    expect(toHex(sealed)).toBe(vector['encrypted_env']);
    expect(utf8Text(decryptEnv(secret, sealed))).toBe(vector['plaintext_utf8']);
    const known = expected.env_decrypt_known_answer;
    expect(utf8Text(decryptEnv(fromHex(known['secret']!), fromHex(known['ciphertext']!)))).toBe(
      known['plaintext_utf8'],
    );
  });

  it('keys from a seed', () => {
    const vector = expected.app_keys_from_seed;
    const keys = appKeysFromSeed(fromHex(vector['seed']!));
    expect(toHex(keys.k256Key)).toBe(vector['k256_key']);
    expect(toHex(keys.diskCryptKey)).toBe(vector['disk_crypt_key']);
    expect(p256KeyPem(keys.appKey)).toBe(vector['app_key_pem']);
    expect(toHex(keys.appKey.spki)).toBe(vector['app_key_spki']);
    expect(toHex(keys.envCryptKey)).toBe('');
  });

  it('environment key signature with a time', () => {
    const vector = expected.verify_env_encrypt_public_key.v1_example;
    const claim = {
      appId: fromHex(vector['app_id']!),
      publicKey: fromHex(vector['public_key']!),
      signature: fromHex(vector['signature']!),
      timestamp: Number(vector['timestamp']),
      now: Number(vector['timestamp']),
    };
    const signed = signEnvPublicKey(
      fromHex(vector['signer_private']!),
      claim.appId,
      claim.publicKey,
      claim.timestamp,
    );
    expect(signed).toEqual(claim.signature);
    expect(`0x${toHex(verifyEnvPublicKey(claim)!)}`).toBe(vector['signer_public']);
  });
});

interface Recorded {
  cases: Array<{ name: string; request: { body: { utf8?: string } | null }; response: { utf8?: string } }>;
}

type KeyDirectories = Record<string, Record<string, { scalar_hex?: string; hex?: string }>>;

describeWithFixtures('recorded KMS', 'kms-original/key-directories.json', () => {
  const directory = fixtureJson<KeyDirectories>('kms-original/key-directories.json')['kms-a']!;
  const roots = {
    caScalar: fromHex(directory['root-ca.key']!.scalar_hex!),
    k256: fromHex(directory['root-k256.key']!.hex!),
  };
  const { cases } = fixtureJson<Recorded>('kms-original/transcript.json');
  const answer = (name: string): Record<string, string> =>
    JSON.parse(cases.find((entry) => entry.name === name)!.response.utf8!) as Record<string, string>;

  it('releases the recorded keys byte for byte', () => {
    // The recorded client: app id 1122…00, instance id 33…33.
    const recorded = answer('GetAppKey json');
    const appId = fromHex('1122334455667788990011223344556677889900');
    const keys = deriveAppKeys(roots, appId, fromHex('33'.repeat(20)));
    expect(toHex(keys.diskCryptKey)).toBe(recorded['disk_crypt_key']);
    expect(toHex(keys.envCryptKey)).toBe(recorded['env_crypt_key']);
    expect(toHex(keys.k256Key)).toBe(recorded['k256_key']);
    expect(toHex(keys.k256Signature)).toBe(recorded['k256_signature']);
  });

  it('gives the recorded environment key and signatures', () => {
    const recorded = answer('GetAppEnvEncryptPubKey get query');
    const appId = fromHex('1122334455667788990011223344556677889900');
    const publicKey = deriveEnvPublicKey(roots, appId);
    expect(toHex(publicKey)).toBe(recorded['public_key']);
    expect(toHex(signEnvPublicKey(roots.k256, appId, publicKey))).toBe(recorded['signature']);
    const timestamp = Number(recorded['timestamp']);
    expect(toHex(signEnvPublicKey(roots.k256, appId, publicKey, timestamp))).toBe(recorded['signature_v1']);
    const signature = fromHex(recorded['signature_v1']!);
    expect(verifyEnvPublicKey({ appId, publicKey, signature, timestamp, now: timestamp })).toEqual(
      k256PublicKey(roots.k256),
    );
  });
});
