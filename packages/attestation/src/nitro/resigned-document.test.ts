import { concatBytes, decodeCbor, encodeCbor, fromHex } from '@dstack-cloud/encoding';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import { loadMock, MOCK, signMock, verifyMock } from '../testing/mock-set.fixture.ts';
import { parseCoseSign1, signedBytes } from './cose-sign1.ts';

const NOW = 1781524800;

describeWithFixtures('NSM documents signed again', `${MOCK}/expected.json`, () => {
  const changed = (change: (payload: Map<string, unknown>) => unknown, header = fromHex('a1013822')) => {
    const [attestation, quote] = loadMock('nitro-good', 'dstack-nitro-enclave');
    const cose = parseCoseSign1(quote.nsmQuote);
    const payload = decodeCbor(cose.payload, { indefinite: true }) as Map<string, unknown>;
    const result = change(payload);
    const bytes = result instanceof Uint8Array ? result : encodeCbor(payload);
    const parts = { protectedHeader: header, payload: bytes, signature: cose.signature };
    const signature = signMock('p384', 'nsm-leaf', signedBytes(parts));
    return verifyMock(attestation, { ...quote, nsmQuote: encodeCbor([header, new Map(), bytes, signature]) });
  };
  const bytes = (length: number) => new Uint8Array(length).fill(7);
  const pcrs = (payload: Map<string, unknown>) => payload.get('pcrs') as Map<number, unknown>;

  it('accepts the same document, and byte fields as lists of numbers', async () => {
    await changed(() => undefined);
    await changed((payload) => payload.set('user_data', [...(payload.get('user_data') as Uint8Array)]));
  });

  it.each<[string, (payload: Map<string, unknown>) => unknown, string]>([
    ['no cabundle', (payload) => payload.set('cabundle', []), 'nitro.document'],
    ['a cabundle of nothing', (payload) => payload.set('cabundle', [new Uint8Array()]), 'nitro.document'],
    ['a certificate too long', (payload) => payload.set('certificate', bytes(1025)), 'nitro.document'],
    ['an empty certificate', (payload) => payload.set('certificate', bytes(0)), 'nitro.document'],
    ['user data too long', (payload) => payload.set('user_data', bytes(513)), 'nitro.document'],
    ['a nonce too long', (payload) => payload.set('nonce', bytes(513)), 'nitro.document'],
    ['a public key too long', (payload) => payload.set('public_key', bytes(1025)), 'nitro.document'],
    ['no PCRs', (payload) => payload.set('pcrs', new Map()), 'nitro.document'],
    ['PCRs missing', (payload) => payload.delete('pcrs'), 'nitro.document'],
    ['a PCR of 32 bytes', (payload) => pcrs(payload).set(3, bytes(32)), 'nitro.document'],
    ['a PCR of index 32', (payload) => pcrs(payload).set(32, bytes(48)), 'nitro.document'],
    ['a PCR of index -1', (payload) => pcrs(payload).set(-1, bytes(48)), 'nitro.document'],
    ['no PCR 1', (payload) => pcrs(payload).delete(1), 'nitro.image-pcrs'],
    ['PCR 1 zero', (payload) => pcrs(payload).set(1, new Uint8Array(48)), 'nitro.debug'],
    ['another PCR 0', (payload) => pcrs(payload).set(0, bytes(48)), 'image.nitro'],
    ['a timestamp that is text', (payload) => payload.set('timestamp', '1'), 'nitro.document'],
    ['a negative timestamp', (payload) => payload.set('timestamp', -1), 'nitro.document'],
    ['a timestamp in seconds', (payload) => payload.set('timestamp', NOW), 'nitro.freshness'],
    ['a timestamp too old', (payload) => payload.set('timestamp', (NOW - 301) * 1000), 'nitro.freshness'],
    ['a timestamp too late', (payload) => payload.set('timestamp', (NOW + 301) * 1000), 'nitro.freshness'],
    ['a module id that is a number', (payload) => payload.set('module_id', 5), 'nitro.document'],
    ['another digest', (payload) => payload.set('digest', 'SHA512'), 'nitro.document'],
    ['other user data', (payload) => payload.set('user_data', bytes(64)), 'nitro.user-data'],
    [
      'longer user data',
      (payload) => payload.set('user_data', concatBytes(payload.get('user_data') as Uint8Array, bytes(1))),
      'nitro.user-data',
    ],
    [
      'a certificate missing from the chain',
      (payload) => payload.set('cabundle', (payload.get('cabundle') as unknown[]).slice(0, 1)),
      'nitro.chain',
    ],
    [
      'a certificate twice',
      (payload) =>
        payload.set('cabundle', [
          ...(payload.get('cabundle') as unknown[]),
          (payload.get('cabundle') as unknown[])[1],
        ]),
      'nitro.cabundle-order',
    ],
    ['no map', () => encodeCbor([1]), 'nitro.document'],
    [
      'bytes after the map',
      (payload) => concatBytes(encodeCbor(payload), Uint8Array.of(0)),
      'nitro.document',
    ],
  ])('refuses %s', async (_name, change, check) => {
    await expect(changed(change)).rejects.toMatchObject({ check });
  });

  it.each([
    ['ES256', 'a10126'],
    ['no algorithm', 'a0'],
    ['an empty list of critical labels', 'a201382202 80'.replace(' ', '')],
    ['a byte too many', 'a101382200'],
    ['an algorithm as text', 'a1016545533338 34'.replace(' ', '')],
  ])('refuses a header with %s', async (_name, header) => {
    await expect(changed(() => undefined, fromHex(header))).rejects.toMatchObject({ check: 'nitro.cose' });
  });
});
