import { generateP256Key } from '@dstack-cloud/keys';
import { expect, test } from 'vitest';
import { generateSharedKeys, keysFor } from '../key-directory/new-keys.ts';
import { readKeys, writeKeys } from './write-keys.ts';

test('a worker has the keys that the primary has, retired roots included', () => {
  const now = 1_795_000_000;
  const { bootstrapInfo: _, ...active } = keysFor(generateSharedKeys(), 'kms.example.com', now);
  const {
    tempCa: _tempCa,
    rpcKey: _rpcKey,
    domain: _domain,
    history: _history,
    ...old
  } = keysFor(generateSharedKeys(), 'kms.example.com', now);
  const bootstrapInfo = {
    caPubkey: new Uint8Array(91).fill(1),
    k256Pubkey: new Uint8Array(33).fill(2),
    attestation: new Uint8Array(),
  };
  const keys = { ...active, bootstrapInfo, history: [{ ...old, successor: active.id }] };
  const copy = readKeys(writeKeys(keys));
  expect(copy).toEqual(keys);
  expect(copy.rpcKey.pkcs8).toEqual(keys.rpcKey.pkcs8);
  expect(copy.rootCa.key.privateKey.equals(keys.rootCa.key.privateKey)).toBe(true);
  expect(copy.history[0]?.roots).toEqual(old.roots);
});

test('keys stand in the text as they are used, not as files would have them', () => {
  const key = generateP256Key();
  const text = writeKeys({ rpcKey: key } as Parameters<typeof writeKeys>[0]);
  expect(readKeys(text).rpcKey.spki).toEqual(key.spki);
  expect(text).not.toContain('publicPoint');
});
