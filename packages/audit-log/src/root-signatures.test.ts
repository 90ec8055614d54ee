import { equalBytes } from '@dstack-cloud/encoding';
import {
  generateP256Key,
  getKey,
  issuedKeyMessage,
  k256PublicKey,
  type RootKeys,
  signEnvPublicKey,
  signK256,
  signNamedEnvPublicKey,
  verifyEnvPublicKey,
  verifySignatureChain,
} from '@dstack-cloud/keys';
import { expect, test } from 'vitest';
import { rootNames, signHandover, verifyHandover } from './handover.ts';
import { auditKey, auditKeyCertifier, certifyAuditKey, signTreeHead, verifyTreeHead } from './tree-head.ts';

const NOW = 1_781_524_800;
const appId = new Uint8Array(20).fill(7);
const [root, next, app] = [1, 2, 3].map((byte) => new Uint8Array(32).fill(byte)) as [
  Uint8Array,
  Uint8Array,
  Uint8Array,
];
const rootKey = k256PublicKey(root);
const appKey = k256PublicKey(app);
const envKey = new Uint8Array(32).fill(9);
const auditPublicKey = k256PublicKey(auditKey(root));
const named = { epoch: 0, rootId: new Uint8Array(20).fill(4), isPresent: true };
const names = (k256: Uint8Array) => {
  const { scalar, spki } = generateP256Key();
  const keys: RootKeys = { caScalar: scalar, k256 };
  return rootNames(keys, spki);
};
const [from, to] = [names(root), names(next)];
const derived = getKey(app, 'path', 'purpose', 'k256');

/** What the root signs, each by its own rule and with values that the others would take too. */
const SIGNED: Readonly<Record<string, Uint8Array>> = {
  'an application key': signK256(issuedKeyMessage(appId, appKey), root),
  'an environment key': signEnvPublicKey(root, appId, envKey),
  'an environment key with its time': signEnvPublicKey(root, appId, envKey, NOW),
  'an environment key with its name': signNamedEnvPublicKey(
    root,
    { appId, publicKey: envKey, timestamp: NOW },
    named,
  ),
  'the audit key': certifyAuditKey(auditPublicKey, root),
  'a hand-over': signHandover(from, to, root).signature,
};

/** Whoever holds a signature of the root to be one of this kind. */
const ACCEPTED: Readonly<Record<string, (signature: Uint8Array) => boolean>> = {
  'an application key': (signature) =>
    didNotThrow(() =>
      verifySignatureChain({
        publicKey: derived.publicKey,
        purpose: 'purpose',
        signatureChain: [derived.signature, signature],
        appId,
        kmsPublicKey: rootKey,
      }),
    ),
  'an environment key': (signature) => isRoot(verifyEnvPublicKey({ appId, publicKey: envKey, signature })),
  'an environment key with its time': (signature) =>
    isRoot(verifyEnvPublicKey({ appId, publicKey: envKey, signature, timestamp: NOW, now: NOW })),
  'an environment key with its name': (signature) =>
    isRoot(
      verifyEnvPublicKey({ appId, publicKey: envKey, signature, timestamp: NOW, now: NOW, name: named }),
    ),
  'the audit key': (signature) => isRoot(auditKeyCertifier(auditPublicKey, signature)),
  'a hand-over': (signature) => didNotThrow(() => verifyHandover({ from, to, signature })),
};

function isRoot(signer: Uint8Array | null): boolean {
  return signer !== null && equalBytes(signer, rootKey);
}

function didNotThrow(run: () => unknown): boolean {
  try {
    run();
    return true;
  } catch {
    return false;
  }
}

test.each(Object.keys(SIGNED))('the signature of the root for %s is one for nothing else', (kind) => {
  const takers = Object.keys(ACCEPTED).filter((taker) => ACCEPTED[taker]!(SIGNED[kind]!));
  expect(takers).toEqual([kind]);
});

test('nobody but the root signs for it: not the audit key, not an application, not the next root', () => {
  for (const secret of [auditKey(root), app, next]) {
    const signature = signK256(issuedKeyMessage(appId, appKey), secret);
    expect(ACCEPTED['an application key']!(signature)).toBe(false);
    expect(ACCEPTED['an environment key']!(signEnvPublicKey(secret, appId, envKey))).toBe(false);
    expect(ACCEPTED['the audit key']!(certifyAuditKey(auditPublicKey, secret))).toBe(false);
    expect(ACCEPTED['a hand-over']!(signHandover(from, to, secret).signature)).toBe(false);
  }
});

test('the heads of the log are signed by the audit key, and not by the root', () => {
  const head = (key: Uint8Array) => signTreeHead(1, NOW, new Uint8Array(32), key);
  expect(verifyTreeHead(head(auditKey(root)), auditPublicKey).size).toBe(1);
  for (const key of [root, next, app]) {
    expect(() => verifyTreeHead(head(key), auditPublicKey)).toThrow(/not the audit key/);
  }
});

test('what an application signs with its own key is no word of the root, whatever its purpose', () => {
  // The purpose is free text: an application could name one that the root uses.
  for (const purpose of ['dstack-kms-issued', 'dstack-kms-audit-key', 'dstack-env-encrypt-pubkey']) {
    const { signature } = getKey(app, 'path', purpose, 'k256');
    expect(Object.values(ACCEPTED).some((accepts) => accepts(signature))).toBe(false);
  }
});
