import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { boundedLines, type HeldBack, LineBudget } from './line-budget.ts';

function budget() {
  const told: HeldBack[] = [];
  return { told, lines: new LineBudget((heldBack) => told.push(heldBack)) };
}

test('the same reason of the same source is written once, and then counted', () => {
  const { told, lines } = budget();
  const taken = Array.from({ length: 100 }, () => lines.takes('refused', '192.0.2.1', 'no evidence'));
  expect(taken.filter(Boolean)).toHaveLength(1);
  expect(lines.takes('refused', '192.0.2.1', 'another reason')).toBe(true);
  expect(lines.takes('refused', '192.0.2.2', 'no evidence')).toBe(true);
  expect(lines.takes('failed', '192.0.2.1', 'no evidence')).toBe(true);
  lines.flush();
  expect(told).toEqual([
    {
      message: 'refused',
      lines: 99,
      sources: 1,
      most: [{ source: '192.0.2.1', reason: 'no evidence', lines: 99 }],
    },
  ]);
  lines.flush();
  expect(told).toHaveLength(1);
  expect(lines.takes('refused', '192.0.2.1', 'no evidence')).toBe(true);
  lines.flush();
});

test('a source that makes up reasons has five lines, and leaves lines to others', () => {
  const { told, lines } = budget();
  const taken = Array.from({ length: 1000 }, (_, index) => lines.takes('refused', 'a', `reason ${index}`));
  expect(taken.filter(Boolean)).toHaveLength(5);
  expect(lines.takes('refused', 'b', 'x')).toBe(true);
  lines.flush();
  expect(told[0]).toMatchObject({ message: 'refused', lines: 995 });
  expect(told[0]?.most[0]).toEqual({ source: 'others', reason: '', lines: 995 - 251 });
});

test('what nobody in particular causes is bounded by its message alone', () => {
  const { told, lines } = budget();
  const taken = Array.from({ length: 80 }, () => lines.takes('policy source failed', '', 'timeout'));
  expect(taken.filter(Boolean)).toHaveLength(50);
  lines.flush();
  expect(told[0]).toMatchObject({ lines: 30, sources: 1 });
});

test('whatever comes, fifty lines of a message are written in a window, and each other one is counted', () => {
  const line = fc.record({ source: fc.nat(30).map(String), reason: fc.string({ maxLength: 3 }) });
  fc.assert(
    fc.property(fc.array(line, { maxLength: 600 }), (sent) => {
      const { told, lines } = budget();
      const written = sent.filter(({ source, reason }) => lines.takes('m', source, reason)).length;
      expect(written).toBeLessThanOrEqual(50);
      lines.flush();
      const counted = told.reduce((sum, heldBack) => sum + heldBack.lines, 0);
      expect(written + counted).toBe(sent.length);
    }),
  );
});

test('a log writes what it held back after ten seconds, and at its end', () => {
  vi.useFakeTimers();
  try {
    const { hooks, flush } = boundedLines();
    const written: unknown[][] = [];
    const method = (...input: unknown[]): void => void written.push(input);
    const log = (level: number, ...input: unknown[]): void => hooks.logMethod(input, method, level);
    for (let index = 0; index < 3; index++) {
      log(40, { source: 'a', reason: 'r' }, 'refused');
      log(30, { source: 'a', reason: 'r' }, 'done');
    }
    log(50, 'plain text');
    expect(written.map(([, message]) => message)).toEqual(['refused', 'done', 'done', 'done', undefined]);
    vi.advanceTimersByTime(10_000);
    const most = [{ source: 'a', reason: 'r', lines: 2 }];
    expect(written.at(-1)).toEqual([
      { held_back: 'refused', lines: 2, sources: 1, most },
      'log lines held back',
    ]);
    log(40, { source: 'a', reason: 'r' }, 'refused');
    log(40, { source: 'a', reason: 'r' }, 'refused');
    flush();
    expect(written.at(-1)?.[0]).toMatchObject({ lines: 1 });
  } finally {
    vi.useRealTimers();
  }
});
