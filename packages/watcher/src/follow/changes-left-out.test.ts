import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Source } from '../state/watch-state.ts';
import { changesLeftOut, rewound, withLeftOut } from './changes-left-out.ts';

const start: Source = { kind: 'kms', next: 1, alertsFrom: 1, listed: true };

test('however often blocks are read again, what was left out of those before is counted once', () => {
  const move = fc.oneof(
    { weight: 8, arbitrary: fc.array(fc.nat(3), { minLength: 1, maxLength: 3 }) },
    { weight: 1, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }) },
  );
  fc.assert(
    fc.property(fc.array(move, { maxLength: 600, size: 'max' }), (moves) => {
      let source = start;
      let chain: number[] = [0];
      for (const one of moves) {
        if (typeof one === 'number') {
          // Mostly near the end, as reorganisations are.
          const next = Math.max(1, Math.ceil(source.next * (1 - one ** 6)));
          source = rewound(source, next);
          expect(source.next).toBeLessThanOrEqual(next);
          chain = chain.slice(0, source.next);
        } else {
          const count = one.reduce((sum, here) => sum + here, 0);
          const to = source.next + one.length - 1;
          const leftOut = withLeftOut(source.leftOut, { from: source.next, to, count });
          source = { ...source, next: to + 1, leftOut };
          chain.push(...one);
        }
        expect(changesLeftOut(source)).toBe(chain.reduce((sum, here) => sum + here, 0));
        expect(source.leftOut?.length ?? 0).toBeLessThanOrEqual(256);
      }
    }),
    { numRuns: 50 },
  );
});

test('of many parts the oldest are taken together, and read again together', () => {
  let source = start;
  for (let block = 1; block <= 300; block += 1)
    source = {
      ...source,
      next: block + 1,
      leftOut: withLeftOut(source.leftOut, { from: block, to: block, count: 1 }),
    };
  expect(changesLeftOut(source)).toBe(300);
  expect(rewound(source, 200)).toMatchObject({ next: 200 });
  expect(rewound(source, 30)).toEqual(start);
});
