import type { AuditEntry } from '@dstack-cloud/audit-log';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { foldRefusals } from './fold-refusals.ts';

const denied = (app: number, more: Partial<AuditEntry> = {}): AuditEntry => ({
  event: 'app-key',
  app_id: app.toString(16).padStart(40, '0'),
  decision: 'denied',
  reason: 'Boot denied: no',
  ...more,
});

describe('refusals in the audit log', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  function folded() {
    const written: AuditEntry[] = [];
    const refusals = foldRefusals(async (entry) => void written.push(entry));
    return { written, ...refusals };
  }

  test('the first is written at once, repeats are counted, and the count follows after a minute', async () => {
    const { written, write } = folded();
    for (let i = 0; i < 100; i++) await write(denied(1, { block_number: i }));
    expect(written).toEqual([denied(1, { block_number: 0 })]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(written).toEqual([denied(1, { block_number: 0 }), denied(1, { block_number: 0, repeats: 99 })]);
    await write(denied(1));
    expect(written).toHaveLength(3);
    await vi.advanceTimersByTimeAsync(120_000);
    expect(written).toHaveLength(3);
  });

  test('nothing is lost when many come at once as a minute ends', async () => {
    const written: AuditEntry[] = [];
    const slowly = (entry: AuditEntry): Promise<void> =>
      new Promise((resolve) => queueMicrotask(() => resolve(void written.push(entry))));
    const { write, close } = foldRefusals(slowly);
    await write(denied(1));
    await write(denied(1));
    // The timer that would end the minute has not come yet.
    vi.spyOn(performance, 'now').mockReturnValue(performance.now() + 60_001);
    await Promise.all(Array.from({ length: 10 }, () => write(denied(1))));
    await close();
    vi.restoreAllMocks();
    expect(written).toEqual([denied(1), denied(1, { repeats: 1 }), denied(1), denied(1, { repeats: 9 })]);
  });

  test('another workload, reason or event is another refusal; releases are never folded', async () => {
    const { written, write } = folded();
    const entries = [denied(1), denied(2), denied(1, { reason: 'x' }), denied(1, { event: 'sign-cert' })];
    for (const entry of [...entries, ...entries]) await write(entry);
    expect(written).toEqual(entries);
    for (let i = 0; i < 5; i++) await write({ event: 'app-key', decision: 'allowed' });
    expect(written).toHaveLength(9);
  });

  test('a flood of different refusals writes at most 257 records a minute', async () => {
    const { written, write, close } = folded();
    for (let minute = 1; minute <= 3; minute++) {
      const before = written.length;
      for (let i = 0; i < 5_000; i++) await write(denied(i % 2_000));
      await vi.advanceTimersByTimeAsync(60_000);
      expect(written.length - before).toBeLessThanOrEqual(257);
    }
    const many = written.filter(({ event }) => event === 'refusals');
    expect(many).toHaveLength(3);
    const told = written.reduce(
      (sum, { event, repeats = 0 }) => sum + repeats + (event === 'refusals' ? 0 : repeats === 0 ? 1 : 0),
      0,
    );
    expect(told).toBe(15_000);
    await close();
  });

  test('many at once are one record', async () => {
    const { written, write } = folded();
    await Promise.all(Array.from({ length: 50 }, () => write(denied(7))));
    expect(written).toHaveLength(1);
  });

  test('what is counted is written when the log is closed', async () => {
    const { written, write, close } = folded();
    for (let i = 0; i < 3; i++) await write(denied(1));
    await close();
    expect(written.map(({ repeats }) => repeats)).toEqual([undefined, 2]);
  });

  test('an error reaches who wrote; the next one of its kind is only counted', async () => {
    const refusals = foldRefusals(() => Promise.reject(new Error('disk full')));
    await expect(refusals.write(denied(1))).rejects.toThrow('disk full');
    await refusals.write(denied(1));
    await refusals.close();
    await expect(refusals.write({ event: 'app-key', decision: 'allowed' })).rejects.toThrow('disk full');
  });
});
