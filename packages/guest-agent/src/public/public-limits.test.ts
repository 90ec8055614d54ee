import type { IncomingMessage } from 'node:http';
import { describe, expect, it } from 'vitest';
import { KeptAnswers } from './kept-answers.ts';
import { PublicLimits } from './public-limits.ts';

const from = (remoteAddress: string) => ({ socket: { remoteAddress } }) as unknown as IncomingMessage;
const count = (times: number, take: () => boolean): number =>
  Array.from({ length: times }, take).filter(Boolean).length;

describe('limits of the public side', () => {
  it('one network has half of the evidence at most; others have the rest', () => {
    let now = 0;
    const limits = new PublicLimits(() => now);
    expect(count(1000, () => limits.takeEvidence(from('10.0.0.1')))).toBe(8);
    expect(count(1000, () => limits.takeEvidence(from('2001:db8::1')))).toBe(8);
    // The same /64 is the same network; the whole is spent now.
    expect(count(10, () => limits.takeEvidence(from('2001:db8::2')))).toBe(0);
    expect(count(10, () => limits.takeEvidence(from('10.0.0.3')))).toBe(0);
    now += 10_000;
    // Ten seconds later: one a second for each network, four for all.
    expect(count(1000, () => limits.takeEvidence(from('10.0.0.1')))).toBe(8);
    expect(count(1000, () => limits.takeEvidence(from('10.0.0.9')))).toBe(8);
  });

  it('streams are shared, and their places come back', () => {
    const limits = new PublicLimits(() => 0);
    const places = Array.from({ length: 50 }, () => limits.takeStream(from('10.0.0.1'))).filter(Boolean);
    expect(places).toHaveLength(8);
    expect(limits.takeStream(from('10.0.0.2'))).toBeDefined();
    for (const giveBack of places) giveBack?.();
    expect(limits.takeStream(from('10.0.0.1'))).toBeDefined();
  });
});

describe('kept answers', () => {
  it('are made once for all who ask at once, and again when they are old or out of date', async () => {
    let now = 0;
    let made = 0;
    const kept = new KeptAnswers<number>(1000, () => now);
    const make = async () => ++made;
    expect(await Promise.all([1, 2, 3].map(() => kept.get('a', 1, make)))).toEqual([1, 1, 1]);
    now = 999;
    expect(await kept.get('a', 1, make)).toBe(1);
    expect(await kept.get('a', 2, make)).toBe(2);
    now = 2000;
    expect(await kept.get('a', 2, make)).toBe(3);
  });

  it('that failed are made again', async () => {
    const kept = new KeptAnswers<number>(1000, () => 0);
    await expect(kept.get('a', 1, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await kept.get('a', 1, async () => 1)).toBe(1);
  });
});
