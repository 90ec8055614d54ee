import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { type Forged, judgeForged, type Keys, SEED_A, verdictOf } from './forged.ts';
import { mockKeys } from './mock-keys.ts';

const OTHER_SEED = new Uint8Array(createHash('sha256').update('other').digest());
/** The fixture's seed and another; keys are derived once for all tables. */
const SEEDS: readonly [string, Keys][] = [
  ['set A', mockKeys(SEED_A)],
  ['another seed', mockKeys(OTHER_SEED)],
];

/** Name, change to a good draft, verdict: `good`, or code and check of the refusal; wire forms that can carry it. */
export type Row<D> = readonly [
  name: string,
  change: (draft: D) => void,
  verdict: string,
  forms?: readonly ('v0' | 'v1')[],
];

/** Judges each row under both seeds and in both wire forms; evidence is signed anew after the change. */
export function forgeTable<D>(
  draftOf: (keys: Keys) => D,
  seal: (draft: D) => Forged,
  rows: readonly Row<D>[],
): void {
  for (const [name, change, verdict, forms = ['v0', 'v1'] as const] of rows) {
    it(`${verdict}: ${name}`, async () => {
      for (const [seed, keys] of SEEDS) {
        const draft = draftOf(keys);
        change(draft);
        const forged = seal(draft);
        for (const form of forms) {
          const started = performance.now();
          const report = await judgeForged(forged, form);
          const found = verdictOf(report);
          expect(found, `${seed}, ${form}: ${found}`).toBe(verdict);
          expect(performance.now() - started).toBeLessThan(2000);
          if (!report.isValid) continue;
          expect(report.simulated).toBe(true);
          expect(report.validFrom ?? 0).toBeLessThanOrEqual(forged.now);
          expect(report.validUntil ?? forged.now).toBeGreaterThanOrEqual(forged.now);
        }
      }
    });
  }
}
