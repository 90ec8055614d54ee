import { generateP256Key } from '@dstack-cloud/keys';
import { glanceAt, rootCa } from '@dstack-cloud/ra-tls';
import { describe, expect, test } from 'vitest';
import { VerifiedCertificates } from './verified-certificates.ts';
import type { VerifiedEvidence } from './verified-evidence.ts';

const evidence = (validUntil: number): VerifiedEvidence =>
  ({
    validUntil,
    pack() {
      return this;
    },
  }) as unknown as VerifiedEvidence;
const [certificate, another] = [1, 2].map(() => rootCa({ key: generateP256Key(), now: 1_000_000 })) as [
  Uint8Array,
  Uint8Array,
];

describe('VerifiedCertificates', () => {
  function counting(validUntil: number) {
    let now = 1000;
    let verified = 0;
    const cache = new VerifiedCertificates(() => now);
    return {
      cache,
      at: (time: number) => {
        now = time;
      },
      get: (der = certificate, fails = false) =>
        cache.get(glanceAt(der), async () => {
          verified += 1;
          if (fails) throw new Error('refused');
          return evidence(validUntil);
        }),
      known: (der = certificate) => cache.known(glanceAt(der)),
      verified: () => verified,
    };
  }

  test('verifies a certificate once in ten minutes, concurrent callers together', async () => {
    const { at, get, known, verified } = counting(10_000);
    await Promise.all([get(), get(), get()]);
    at(1599);
    await get();
    expect(verified()).toBe(1);
    expect(known()?.validUntil).toBe(10_000);
    at(1600);
    expect(known()).toBeUndefined();
    await get();
    expect(verified()).toBe(2);
    expect(known(another)).toBeUndefined();
    await get(another);
    expect(verified()).toBe(3);
  });

  test('never outlives the collateral, nor a clock that was set back', async () => {
    const short = counting(1100);
    await short.get();
    short.at(1101);
    expect(short.known()).toBeUndefined();
    await short.get();
    expect(short.verified()).toBe(2);
    const back = counting(10_000);
    await back.get();
    back.at(900);
    expect(back.known()).toBeUndefined();
    await back.get();
    expect(back.verified()).toBe(2);
  });

  test('keeps nothing of a refusal', async () => {
    const { get, known, verified } = counting(10_000);
    await expect(get(certificate, true)).rejects.toThrow('refused');
    expect(known()).toBeUndefined();
    await get();
    expect(verified()).toBe(2);
  });

  test('knows nothing while it is being verified', async () => {
    const { get, known } = counting(10_000);
    const under = get();
    expect(known()).toBeUndefined();
    await under;
    expect(known()).toBeDefined();
  });

  test('knows the bytes: one that differs makes another certificate', async () => {
    const { get, known } = counting(10_000);
    await get();
    expect(known(certificate.slice())).toBeDefined();
    const changed = certificate.slice();
    changed[changed.length - 1]! ^= 1;
    expect(known(changed)).toBeUndefined();
  });

  test('remembers nothing of a certificate without evidence', async () => {
    let read = 0;
    const cache = new VerifiedCertificates(() => 1000);
    const bare = glanceAt(certificate);
    const none = async (): Promise<undefined> => {
      read += 1;
    };
    expect([await cache.get(bare, none), await cache.get(bare, none)]).toEqual([undefined, undefined]);
    expect([read, cache.known(bare)]).toEqual([2, undefined]);
  });
});
