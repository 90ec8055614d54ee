import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pcrPolicyDigest, SEALING_PCRS } from './pcr-policy.ts';
import { findSealRequest, formatSealRequest, type SealRequest } from './seal-request.ts';

const digest = fc.uint8Array({ minLength: 32, maxLength: 32 });
const request: fc.Arbitrary<SealRequest> = fc
  .record({
    number: fc.integer({ min: 1, max: 0xffff_ffff }),
    keyHash: digest,
    values: fc.array(digest, { minLength: SEALING_PCRS.length, maxLength: SEALING_PCRS.length }),
  })
  .map(({ number, keyHash, values }) => {
    const pcrs = SEALING_PCRS.map((index, at) => ({ index, value: values[at]! }));
    return { number, keyHash, pcrs, policy: pcrPolicyDigest('sha256', pcrs) };
  });

describe('the request for an approval', () => {
  it('is found in the text around it, the last one of several', () => {
    fc.assert(
      fc.property(request, request, fc.string(), (first, last, around) => {
        const text = `${around} ${formatSealRequest(first)}; ${around}\n${formatSealRequest(last)}"} ${around}`;
        expect(findSealRequest(text)).toEqual(last);
      }),
      { numRuns: 30 },
    );
  });

  it('is refused when any digit of its policy or registers is another: nobody signs what they did not see', () => {
    fc.assert(
      fc.property(request, fc.nat(), (good, at) => {
        const text = formatSealRequest(good);
        const digits = [...text.matchAll(/(?<=policy |=)[0-9a-f]{64}/g)];
        const { index } = digits[at % digits.length]!;
        const place = index + (at % 64);
        const changed = `${text.slice(0, place)}${text[place] === '0' ? '1' : '0'}${text.slice(place + 1)}`;
        expect(() => findSealRequest(changed)).toThrow(/policy of the request is not the one/);
      }),
      { numRuns: 50 },
    );
  });

  it('is refused with other registers, and with a number that no approval has', () => {
    const pcrs = [0, 2, 4].map((index) => ({ index, value: new Uint8Array(32) }));
    const base = { number: 1, keyHash: new Uint8Array(32), pcrs, policy: pcrPolicyDigest('sha256', pcrs) };
    expect(() => findSealRequest(formatSealRequest(base))).toThrow(/other registers/);
    for (const number of [0, 0x1_0000_0000])
      expect(() => findSealRequest(formatSealRequest({ ...base, number }))).toThrow(/no approval can have/);
  });

  it('is not there in other text', () => {
    expect(findSealRequest('approval 2 of policy x')).toBeUndefined();
  });
});
