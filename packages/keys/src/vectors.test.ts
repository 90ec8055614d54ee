// Vectors computed by an independent implementation and seen on the running original.
import { concatBytes, fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { describe, expect, it } from 'vitest';
import { deriveAppCaKey, deriveAppKeys, deriveEnvPublicKey, issuedKeyMessage } from './app-keys.ts';
import { bootstrapReportData } from './bootstrap-report-data.ts';
import { deriveDhSecret, deriveP256Scalar } from './derive.ts';
import { signEnvPublicKey, signNamedEnvPublicKey, verifyEnvPublicKey } from './env-public-key.ts';
import { k256PublicKey, recoverK256 } from './k256.ts';
import { keccak256 } from './keccak256.ts';
import { p256KeyFromPem, p256KeyFromScalar, p256KeyPem } from './p256-key.ts';

const caScalar = fromHex('f57527cea4ab7ffb49af99b158cdc0e3ec06398f528349ea236b7d2afe19cec1');
const k256 = fromHex('3026569ccdf3b25530fce804d004a7274006d0e9aca5308c5ba145c5f28f1a73');
const roots = { caScalar, k256 };
const appId = fromHex('11'.repeat(20));
const instanceId = fromHex('22'.repeat(20));
const rootSpki =
  '3059301306072a8648ce3d020106082a8648ce3d0301070342000491f50522407ce29dce3ed7d31a15d80c1c42f13a23552d2b33a0ce09ee11e47bce95936f3e7f80d195f879e28e1b144ef37ac9ab8e36a690cbf930b775897b27';
const rootPkcs8 =
  '308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420f57527cea4ab7ffb49af99b158cdc0e3ec06398f528349ea236b7d2afe19cec1a1440342000491f50522407ce29dce3ed7d31a15d80c1c42f13a23552d2b33a0ce09ee11e47bce95936f3e7f80d195f879e28e1b144ef37ac9ab8e36a690cbf930b775897b27';
const appCaPem = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgW3eeCp/oCy5YZtlJ
WNqhpOKaGDIos/N6zX6uFT4Yp1+hRANCAAQFJq9Y9XNySikzorU1BsqiA0PmuYVz
/YnjLu6CDrWVj+R5fOSY/ouG8RTevxjar15lCrSM7BSSfpXnH6wTr3aX
-----END PRIVATE KEY-----
`;

describe('key derivation vectors', () => {
  it('golden derive_dh of the original', () => {
    expect(toHex(deriveDhSecret(caScalar, ['context one', 'context two']))).toBe(
      '663afd58820be8ad645f9c035e93199d114ab16f738db62393bc1d7d623e8813',
    );
  });

  it('root CA key encodings', () => {
    const key = p256KeyFromScalar(caScalar);
    expect(toHex(key.spki)).toBe(rootSpki);
    expect(toHex(key.pkcs8)).toBe(rootPkcs8);
    expect(p256KeyFromPem(p256KeyPem(key)).pkcs8).toEqual(key.pkcs8);
    expect(toHex(k256PublicKey(k256))).toBe(
      '02abe5b6188916c4fd89fedbde257f4ca58da82e369f22e4439cc849bda7e3f238',
    );
  });

  it('keys of an application', () => {
    const keys = deriveAppKeys(roots, appId, instanceId);
    expect(toHex(deriveP256Scalar(caScalar, [appId, instanceId, 'app-disk-crypt-key']))).toBe(
      'e9f3ad6ef70bf9e5fad103eee3caa8b1e78cf1d038b519743a219e9f1c16afdf',
    );
    expect(toHex(keys.diskCryptKey)).toBe('a59c814e2c6d9353af59ce4fba7215e5ec3b62a2495b4dca48ea6f9804061f51');
    expect(toHex(deriveAppKeys(roots, appId, new Uint8Array()).diskCryptKey)).toBe(
      '14de7a7fd8bddf8e641a55ca97f043cac4344d175419f743940840f3a348f049',
    );
    expect(toHex(keys.envCryptKey)).toBe('a7470db8cfdd0fe24134b461d60766afa7c078abe6dce9f2c8a5c44034ca400e');
    expect(toHex(deriveEnvPublicKey(roots, appId))).toBe(
      '93cf259f68b24775d54290a8ea57cf93efc994d3ff28a7b8ba7a39e9f512302f',
    );
    expect(toHex(keys.k256Key)).toBe('12d54d8dd9fa1b471dda3997a19325dfd2852c58585a9e889a12be0a5d9dbe1b');
    const message = issuedKeyMessage(appId, k256PublicKey(keys.k256Key));
    expect(toHex(keccak256(message))).toBe(
      'c3affc0ca4fb3bdfdb4db33ab29a9fe28cc7a0a6e0186f12b138ba0d3fd2e50d',
    );
    expect(toHex(keys.k256Signature)).toBe(
      'b2521e3d8d98fb88400221c122567db63f802a6559ec692dc69a2c80ff6263a411f41344f0e4f2d8bb15f5f7d57ffbb7f3cfae0349fa983eb15f7ff825cd200d00',
    );
  });

  it('hands out copies, so that a caller may overwrite them', () => {
    deriveAppKeys(roots, appId, instanceId).k256Key.fill(0);
    expect(toHex(deriveAppKeys(roots, appId, instanceId).k256Key)).toMatch(/^12d54d8d/);
  });

  it('application CA key', () => {
    const key = deriveAppCaKey(roots, appId);
    expect(toHex(key.scalar)).toBe('5b779e0a9fe80b2e5866d94958daa1a4e29a183228b3f37acd7eae153e18a75f');
    expect(p256KeyPem(key)).toBe(appCaPem);
    expect(deriveAppCaKey(roots, appId)).toBe(key);
  });

  it('signatures over the environment public key', () => {
    const publicKey = deriveEnvPublicKey(roots, appId);
    const legacy = signEnvPublicKey(k256, appId, publicKey);
    expect(toHex(legacy)).toBe(
      '38468c9d4150200f00dbced04f94b8160680fb08da7ae0f8cf43a86597fde5b00a98013458c93a0649279daaaf2721212dd9adfe16eda81c27361a6f0a33e20000',
    );
    const timestamp = 1_700_000_000;
    const v1 = signEnvPublicKey(k256, appId, publicKey, timestamp);
    expect(toHex(v1)).toBe(
      '75675470e9f37553c1c4eabd19a5b3278153431bb27bde39057d5c9ffd2546a1374201faa7fc40f77e0dfc905b1a05287c34c587867dfabcce239cf8d5e651ab01',
    );
    expect(verifyEnvPublicKey({ appId, publicKey, signature: legacy })).toEqual(k256PublicKey(k256));
    const claim = { appId, publicKey, signature: v1, timestamp };
    for (const [now, accepted] of [
      [timestamp + 300, true],
      [timestamp + 301, false],
      [timestamp - 60, true],
      [timestamp - 61, false],
      [Number.NaN, false],
    ] as const) {
      const signer = verifyEnvPublicKey({ ...claim, now });
      expect(signer !== null).toBe(accepted);
      if (signer) expect(signer).toEqual(k256PublicKey(k256));
    }
    expect(verifyEnvPublicKey({ ...claim, now: timestamp, maxAgeSeconds: -1 })).toBeNull();
  });

  it('the signature that says which environment key it is', () => {
    const publicKey = deriveEnvPublicKey(roots, appId, 2);
    const [timestamp, id] = [1_700_000_000, new Uint8Array(20).fill(0xab)];
    const name = { epoch: 2, rootId: id, isPresent: true };
    const signature = signNamedEnvPublicKey(k256, { appId, publicKey, timestamp }, name);
    const message = concatBytes(
      utf8('dstack-env-encrypt-pubkey-v2:'),
      appId,
      fromHex('000000006553f100'),
      fromHex('00000002'),
      id,
      fromHex('01'),
      publicKey,
    );
    expect(recoverK256(message, signature)).toEqual(k256PublicKey(k256));
    const claim = { appId, publicKey, signature, timestamp, now: timestamp, name };
    expect(verifyEnvPublicKey(claim)).toEqual(k256PublicKey(k256));
    for (const other of [
      { name: { ...name, epoch: 1 } },
      { name: { ...name, isPresent: false } },
      { name: { ...name, rootId: new Uint8Array(20) } },
      { timestamp: timestamp - 1 },
    ]) {
      expect(verifyEnvPublicKey({ ...claim, ...other })).not.toEqual(k256PublicKey(k256));
    }
    const { name: _, ...unnamed } = claim;
    expect(verifyEnvPublicKey(unnamed)).not.toEqual(k256PublicKey(k256));
    expect(verifyEnvPublicKey({ ...claim, now: timestamp + 301 })).toBeNull();
    for (const epoch of [-1, 0.5, 2 ** 32, Number.NaN]) {
      expect(verifyEnvPublicKey({ ...claim, name: { ...name, epoch } })).toBeNull();
    }
  });

  it('binding of the root keys at bootstrap', () => {
    expect(toHex(bootstrapReportData(p256KeyFromScalar(caScalar).spki, k256PublicKey(k256)))).toBe(
      `dbf7eca128685ca34739da15a39e8d5af91fd499c0c5c3e0a60d3bda83ac3836${'00'.repeat(32)}`,
    );
  });
});

// Computed by an independent implementation.
describe('environment key signatures of the SDKs', () => {
  const publicKey = fromHex('e33a1832c6562067ff8f844a61e51ad051f1180b66ec2551fb0251735f3ee90a');

  it('legacy', () => {
    const signature = fromHex(
      '8542c49081fbf4e03f62034f13fbf70630bdf256a53032e38465a27c36fd6bed7a5e7111652004aef37f7fd92fbfc1285212c4ae6a6154203a48f5e16cad2cef00',
    );
    const signer = verifyEnvPublicKey({ appId: new Uint8Array(20), publicKey, signature });
    expect(toHex(signer!)).toBe('0217610d74cbd39b6143842c6d8bc310d79da1d82cc9d17f8876376221eda0c38f');
  });

  it('both forms with a known signer', () => {
    const secret = fromHex('01'.repeat(32));
    const app = fromHex('00112233445566778899aabbccddeeff00112233');
    expect(toHex(k256PublicKey(secret))).toBe(
      '031b84c5567b126440995d3ed5aaba0565d71e1834604819ff9c17f5e9d5dd078f',
    );
    expect(toHex(signEnvPublicKey(secret, app, publicKey, 1_760_000_000n))).toBe(
      '09cefc28305b103477608dec8f7b7b1e3d58dc0ba8971c2485a8bd4681b002a42dd24fa5a1b84211e437cf1e75d1483a4a22c99f478e84ff33fe058cd61af8be00',
    );
    expect(toHex(signEnvPublicKey(secret, app, publicKey))).toBe(
      'ad5ef496686663855a0b7724359481354ebd07a0e239e71f0d7997ac1ed9af9d65fa51a0e410767669b5957590cac579e5a896c207876c24ceb2708e1fd57e1200',
    );
  });

  it('gives null for what is no signature over this claim', () => {
    const appId20 = new Uint8Array(20);
    for (const signature of [new Uint8Array(65), new Uint8Array(64), utf8('x')]) {
      expect(verifyEnvPublicKey({ appId: appId20, publicKey, signature })).toBeNull();
    }
    expect(
      verifyEnvPublicKey({ appId: new Uint8Array(19), publicKey, signature: new Uint8Array(65) }),
    ).toBeNull();
  });
});
