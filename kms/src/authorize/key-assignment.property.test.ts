/** Older keys over random places: roots listed or not, epochs released or not. */
import { fromHex } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Root } from '../key-directory/kms-keys.ts';
import { generateRoot, generateSharedKeys, keysFor } from '../key-directory/new-keys.ts';
import { olderKeys } from './key-assignment.ts';

test('what is released beside the present keys never leaves what the policy lists', () => {
  const all = keysFor(
    { ...generateSharedKeys(), history: [generateRoot(), generateRoot(), generateRoot()] },
    'x.y',
    0,
  );
  const roots: Root[] = [all, ...all.history];
  fc.assert(
    fc.property(
      fc.nat(3),
      fc.subarray([0, 1, 2, 3]),
      fc.nat(5),
      fc.nat(5),
      fc.option(fc.nat(7), { nil: undefined }),
      fc.option(fc.nat(3), { nil: undefined }),
      (present, listed, current, min, epoch, held) => {
        const oldestEpoch = Math.min(min, current);
        const assignment = {
          root: roots[present]!,
          epochs: { current, oldest: oldestEpoch },
          previousRoots: roots.filter((_, index) => index !== present && listed.includes(index)),
        };
        const rootId = held === undefined ? undefined : fromHex(roots[held]!.id);
        let released: ReturnType<typeof olderKeys>;
        try {
          released = olderKeys(all, assignment, { epoch, rootId });
        } catch (error) {
          expect(error).toMatchObject({ code: 'KEY_NOT_FOUND' });
          return;
        }
        for (const version of released) {
          expect(version.epoch).toBeGreaterThanOrEqual(oldestEpoch);
          expect(version.epoch).toBeLessThanOrEqual(current);
          expect([assignment.root, ...assignment.previousRoots]).toContain(version.root);
          expect(version.root === assignment.root && version.epoch === current).toBe(false);
        }
        if (epoch === undefined && (held === undefined || held === present)) expect(released).toEqual([]);
        expect(new Set(released.map(({ root, epoch: e }) => `${root.id}/${e}`)).size).toBe(released.length);
      },
    ),
    { numRuns: 1000 },
  );
});
