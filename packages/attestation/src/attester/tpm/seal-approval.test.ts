import { generateKeyPairSync, sign } from 'node:crypto';
import { utf8 } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  approvedBytes,
  isApprovedBy,
  parseSealApproval,
  requireSealApproval,
  type SealApproval,
  serializeSealApproval,
} from './seal-approval.ts';

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const approver = new Uint8Array(publicKey.export({ format: 'der', type: 'spki' }));
const approve = (policy: Uint8Array, number: number): SealApproval => ({
  policy,
  number,
  signature: new Uint8Array(
    sign('sha256', approvedBytes({ policy, number }).message, { key: privateKey, dsaEncoding: 'ieee-p1363' }),
  ),
});

describe('a seal approval', () => {
  const good = approve(new Uint8Array(32).fill(1), 2);

  test('is read as it was written', () => {
    const digests = fc.uint8Array({ minLength: 32, maxLength: 32 });
    fc.assert(
      fc.property(digests, fc.integer({ min: 1, max: 0xffff_ffff }), (policy, number) => {
        const approval = approve(policy, number);
        expect(parseSealApproval(utf8(serializeSealApproval(approval)))).toEqual(approval);
        expect(isApprovedBy(approver, approval)).toBe(true);
      }),
      { numRuns: 20 },
    );
  });

  test('serves for its policy and its number alone', () => {
    expect(isApprovedBy(approver, { ...good, number: 3 })).toBe(false);
    expect(isApprovedBy(approver, { ...good, policy: new Uint8Array(32) })).toBe(false);
    const signature = good.signature.slice();
    signature[9]! ^= 1;
    expect(isApprovedBy(approver, { ...good, signature })).toBe(false);
  });

  test('is handed over only when a key signed it that the seal may name', () => {
    const another = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
    const stranger = new Uint8Array(another.export({ format: 'der', type: 'spki' }));
    const bytes = utf8(serializeSealApproval(good));
    expect(requireSealApproval(bytes, approver)).toEqual(good);
    expect(() => requireSealApproval(bytes, stranger)).toThrow(/not signed by the key/);
    expect(() => requireSealApproval(bytes, new Uint8Array())).toThrow(/names no key/);
    const changed = utf8(serializeSealApproval({ ...good, number: 3 }));
    expect(() => requireSealApproval(changed, approver)).toThrow(/not signed by the key/);
  });

  const text = serializeSealApproval(good);
  test.each([
    ['another version', text.replace('"version": 1', '"version": 2')],
    ['an unknown member', text.replace('{', '{"also": 1,')],
    ['a short policy', text.replace('"policy": "01', '"policy": "')],
    ['a policy in capitals', text.replace('"policy": "01', '"policy": "AB')],
    ['number 0', text.replace('"number": 2', '"number": 0')],
    ['a number that is a fraction', text.replace('"number": 2', '"number": 1.5')],
    ['no signature', text.replace(/"signature": "[0-9a-f]+"/, '"signature": null')],
    ['text that is no JSON', '{'],
    ['a list', '[]'],
    ['nothing', 'null'],
    ['a kilobyte of blanks', text + ' '.repeat(1024)],
  ])('is refused with %s', (_, document) => {
    expect(() => parseSealApproval(utf8(document))).toThrow(/approval/);
  });
});
