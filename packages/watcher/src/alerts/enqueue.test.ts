import { UNPRINTABLE } from '@dstack-cloud/encoding';
import { expect, test } from 'vitest';
import { StateStore } from '../state/state-store.ts';
import type { Alert } from './alert.ts';
import { enqueue, type Outlets } from './enqueue.ts';

const OUTLETS: Outlets = { log: true, webhook: undefined, maxWaiting: 10_000 };
const empty = StateStore.inMemory({ kms: '0x', fromBlock: 0 }).state;
const alert = (id: string): Alert => ({ id, rule: 'r', severity: 'info', text: '', time: 1 });
const digits = (number: number, count: number): string => number.toString(16).padStart(count, '0');

test('a flood of events does not make what lasts be told again', () => {
  const lasting = Array.from({ length: 50 }, (_, index) =>
    alert(`0x${digits(index, 40)}/0x${digits(index, 64)}/new-proposal`),
  );
  const events = Array.from({ length: 15_000 }, (_, index) =>
    index % 2 === 0
      ? alert(`${digits(index, 32)}/any-device`)
      : index % 3 === 0
        ? alert(`0x${digits(index, 40)}/app-muted`)
        : alert(`0x${digits(index, 64)}/0x${digits(index, 40)}/unscheduled-change`),
  );
  const flooded = enqueue(enqueue(empty, lasting, OUTLETS), events, OUTLETS);
  expect(Object.keys(flooded.told).length).toBeLessThanOrEqual(4_000);
  expect(enqueue(flooded, lasting, OUTLETS).sequence).toBe(flooded.sequence);
});

test('of what lasts, what ended is forgotten first', () => {
  const first = alert('first/new-proposal');
  let state = enqueue(empty, [first], OUTLETS);
  for (let round = 0; round < 10; round += 1) {
    const others = Array.from({ length: 500 }, (_, index) => alert(`${round}-${index}/new-proposal`));
    state = enqueue(state, [first, ...others], OUTLETS);
  }
  expect(state.sequence).toBe(5_001);
  expect(Object.keys(state.told)).toHaveLength(2_000);
});

test('a flood as large as the journal is taken in at once, and what is grave stays', () => {
  const flood = Array.from({ length: 150_000 }, (_, index) => alert(`${digits(index, 32)}/event-withdrawn`));
  const grave: Alert = { ...alert(`${digits(1, 33)}/upgrade`), severity: 'critical' };
  const { outbox, dropped } = enqueue(empty, [grave, ...flood], { ...OUTLETS, maxWaiting: 100 });
  expect(dropped).toBe(149_901);
  expect(outbox.map(({ sequence }) => sequence)).toEqual([
    1,
    ...Array.from({ length: 99 }, (_, index) => 149_903 + index),
  ]);
});

test('no text of a message moves what is around it, or begins a line', () => {
  const texts = ['INTEL-\u202e)elbissop(\n2030 CRITICAL', '\u001b[2J\u0000', `e${'\u0301'.repeat(100_000)}`];
  const { outbox } = enqueue(
    empty,
    texts.map((text, index) => ({ ...alert(`${index}`), text })),
    OUTLETS,
  );
  for (const { alert: one } of outbox) expect(one.text).not.toMatch(UNPRINTABLE);
  expect(outbox[0]!.alert.text).toBe('INTEL-\\u{202e})elbissop(\\n2030 CRITICAL');
  expect(outbox[2]!.alert.text.length).toBeLessThan(4_096);
});
