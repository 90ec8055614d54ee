import { toHex } from '@dstack-cloud/encoding';
import { generateP256Key, type RootKeys } from '@dstack-cloud/keys';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { followHandovers, type RootHandover, rootNames, signHandover, verifyHandover } from './handover.ts';

const roots = [1, 2, 3, 4].map((byte): { keys: RootKeys; spki: Uint8Array } => {
  const ca = generateP256Key();
  return { keys: { caScalar: ca.scalar, k256: new Uint8Array(32).fill(byte) }, spki: ca.spki };
});
const names = roots.map(({ keys, spki }) => rootNames(keys, spki));
const hex = names.map(({ k256Pubkey }) => toHex(k256Pubkey));
const [ab, bc, cd] = [0, 1, 2].map((index) =>
  signHandover(names[index]!, names[index + 1]!, roots[index]!.keys.k256),
) as [RootHandover, RootHandover, RootHandover];

describe('hand-over', () => {
  test('leads from any root to any later one, and to no earlier one', () => {
    const all = [cd, ab, bc];
    fc.assert(
      fc.property(fc.nat(3), fc.nat(3), (from, to) => {
        const follow = () => followHandovers(all, hex[from]!, hex[to]!);
        if (from > to) expect(follow).toThrow(/Nothing shows/);
        else expect(follow()).toEqual([ab, bc, cd].slice(from, to));
      }),
    );
  });

  test('every changed byte is refused', () => {
    verifyHandover(ab);
    fc.assert(
      fc.property(
        fc.constantFrom('from', 'to', 'signature'),
        fc.constantFrom('caPubkey', 'k256Pubkey', 'auditPubkey'),
        fc.nat(1000),
        fc.integer({ min: 1, max: 255 }),
        (part, name, position, change) => {
          const flip = (bytes: Uint8Array): Uint8Array =>
            bytes.map((byte, index) => (index === position % bytes.length ? byte ^ change : byte));
          const changed =
            part === 'signature'
              ? { ...ab, signature: flip(ab.signature) }
              : {
                  ...ab,
                  [part]: { ...ab[part as 'from'], [name]: flip(ab[part as 'from'][name as 'caPubkey']) },
                };
          expect(() => verifyHandover(changed)).toThrow();
        },
      ),
      { numRuns: 200 },
    );
  });

  test('a missing link, another signer, another audit key, a circle and a crowd are refused', () => {
    expect(() => followHandovers([ab, cd], hex[0]!, hex[3]!)).toThrow(/Nothing shows/);
    const forged = signHandover(names[0]!, names[1]!, roots[2]!.keys.k256);
    expect(() => followHandovers([forged], hex[0]!, hex[1]!)).toThrow(/is signed by/);
    const other = signHandover(
      { ...names[1]!, auditPubkey: names[3]!.auditPubkey },
      names[2]!,
      roots[1]!.keys.k256,
    );
    expect(() => followHandovers([ab, other], hex[0]!, hex[2]!)).toThrow(/two audit keys/);
    const back = signHandover(names[1]!, names[0]!, roots[1]!.keys.k256);
    expect(() => followHandovers([ab, back], hex[0]!, hex[3]!)).toThrow(/Nothing shows/);
    expect(() => followHandovers(new Array(65).fill(ab), hex[0]!, hex[1]!)).toThrow(/too many/);
  });
});
