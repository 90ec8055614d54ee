/** The state on disk: a kill at any moment loses nothing, and what was changed by others is an error. */
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { changes, killedAt } from '@dstack-cloud/test/crash-points';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { enqueue } from '../alerts/enqueue.ts';
import type { GovernanceEvent } from '../events/governance-event.ts';
import { StateStore } from './state-store.ts';

vi.mock('node:fs/promises', async (load) =>
  (await import('@dstack-cloud/test/crash-points')).watchFiles(await load()),
);

const kms = `0x${'11'.repeat(20)}`;
const identity = { kms, fromBlock: 0 };
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'watch-state-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const event = (n: number): GovernanceEvent => ({
  ...{ id: n.toString(16).padStart(32, '0'), block: n, index: 0, time: n, history: false },
  ...{ blockHash: `0x${'22'.repeat(32)}`, tx: `0x${'33'.repeat(32)}`, sender: `0x${'44'.repeat(20)}` },
  ...{ source: 'kms', address: `0x${'11'.repeat(20)}`, name: 'Paused', args: { text: 'ü\u2028' } },
});
const add = (store: StateStore, n: number): Promise<void> =>
  store.update((state) => ({ ...state, sequence: n }), [{ type: 'event', event: event(n) }]);
const ids = (store: StateStore): number[] =>
  store.entries.flatMap((entry) => (entry.type === 'event' ? [entry.event.block] : []));

test('a kill at any change leaves the state before or after, whole, and the work goes on', async () => {
  const first = await StateStore.open(folder, identity);
  await add(first, 1);
  let kills = 0;
  for (let at = 1; ; at += 1) {
    const store = await StateStore.open(folder, identity);
    const [last = 0] = ids(store).slice(-1);
    const isKilled = await killedAt(at, () => add(store, last + 1));
    const after = await StateStore.open(folder, identity);
    expect(ids(after)).toEqual(Array.from({ length: ids(after).length }, (_, index) => index + 1));
    expect(after.state.sequence).toBe(ids(after).length);
    expect([last, last + 1]).toContain(ids(after).length);
    if (!isKilled) break;
    kills += 1;
    // What was not kept is read from the chain once more.
    if (ids(after).length === last) await add(after, last + 1);
  }
  expect(kills).toBeGreaterThan(2);
  expect(changes()).toBeGreaterThan(2);
});

test('a half-written line after what counts is cut off', async () => {
  const store = await StateStore.open(folder, identity);
  await add(store, 1);
  writeFileSync(join(folder, 'journal.jsonl'), Buffer.from('{"type":"event","event":{"id":"\xc3', 'latin1'), {
    flag: 'a',
  });
  const again = await StateStore.open(folder, identity);
  await add(again, 2);
  expect(ids(await StateStore.open(folder, identity))).toEqual([1, 2]);
});

test.each([
  ['a state that is no JSON', 'state.json', () => '{"version":1'],
  ['a state with another member', 'state.json', (text: string) => text.replace('"told"', '"t0ld"')],
  [
    'a journal in which a character changed',
    'journal.jsonl',
    (text: string) => text.replace('Paused', 'Pausec'),
  ],
  ['a journal with a line fewer', 'journal.jsonl', (text: string) => text.split('\n').slice(1).join('\n')],
])('%s is an error, not a new beginning', async (_, name, change) => {
  const store = await StateStore.open(folder, identity);
  await add(store, 1);
  await add(store, 2);
  const path = join(folder, name);
  const before = change(readFileSync(path, 'utf8'));
  writeFileSync(path, before);
  await expect(StateStore.open(folder, identity)).rejects.toMatchObject({ code: 'state-damaged' });
  expect(readFileSync(path, 'utf8')).toBe(before);
});

test('a missing state beside its journal, and a journal that became shorter, are errors', async () => {
  const store = await StateStore.open(folder, identity);
  await add(store, 1);
  truncateSync(join(folder, 'journal.jsonl'), 10);
  await expect(add(store, 2)).rejects.toMatchObject({ code: 'state-damaged' });
  rmSync(join(folder, 'state.json'));
  await expect(StateStore.open(folder, identity)).rejects.toMatchObject({ code: 'state-damaged' });
});

test('the state of another KMS, or of another first block, is refused', async () => {
  await StateStore.open(folder, identity);
  for (const other of [
    { ...identity, kms: `0x${'99'.repeat(20)}` },
    { ...identity, fromBlock: 7 },
  ])
    await expect(StateStore.open(folder, other)).rejects.toMatchObject({ code: 'state-of-another' });
});

test('the state of a newer version is not called damaged, and stays as it is', async () => {
  const store = await StateStore.open(folder, identity);
  await add(store, 1);
  const path = join(folder, 'state.json');
  const newer = readFileSync(path, 'utf8').replace('"version":1', '"version":2,"more":true');
  writeFileSync(path, newer);
  await expect(StateStore.open(folder, identity)).rejects.toMatchObject({
    code: 'state-of-another',
    found: 'version 2',
  });
  expect(readFileSync(path, 'utf8')).toBe(newer);
});

test('all that may wait can be read again', async () => {
  const store = await StateStore.open(folder, identity);
  const alerts = Array.from({ length: 3_000 }, (_, index) => ({
    ...{ id: `${index}`, rule: 'r', severity: 'info' as const, time: 1 },
    text: '"語'.repeat(50_000),
  }));
  await store.update((state) =>
    enqueue(state, alerts, { log: true, webhook: undefined, maxWaiting: 10_000 }),
  );
  const { state } = await StateStore.open(folder, identity);
  expect(state.outbox.length).toBeGreaterThan(1_000);
  expect(state.outbox.length + state.dropped).toBe(3_000);
});
