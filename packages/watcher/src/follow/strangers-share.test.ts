import { keccak256, toHex } from 'viem';
import { expect, test } from 'vitest';
import type { GovernanceEvent } from '../events/governance-event.ts';
import type { JournalEntry } from '../state/watch-state.ts';
import { numberedApp } from '../test/fake-node.ts';
import { StrangersShare, strangerOf } from './strangers-share.ts';

let count = 0;
const event = (of: Partial<GovernanceEvent>): GovernanceEvent => {
  count += 1;
  return {
    ...{ id: count.toString(16).padStart(32, '0'), block: count, index: 0, time: count, history: false },
    ...{ blockHash: `0x${'22'.repeat(32)}`, tx: `0x${'33'.repeat(32)}`, sender: `0x${'44'.repeat(20)}` },
    ...{ source: 'kms', address: `0x${'11'.repeat(20)}`, name: 'Paused', args: {} },
    ...of,
  };
};
const written = (app: number, characters = 0): GovernanceEvent =>
  event({
    source: 'app',
    address: numberedApp(app),
    name: 'unknown',
    args: { data: 'x'.repeat(characters) },
  });
const policy = (label: string) => keccak256(toHex(label));
const ours = numberedApp(9);
const isListed = (address: string): boolean => address === ours;

test('what anybody can cause is of the app that it is about; everything else is not', () => {
  const kms = (name: string, args: GovernanceEvent['args']) => strangerOf(event({ name, args }), isListed);
  const app = numberedApp(1);
  const word = `0x${app.slice(2).padStart(64, '0')}`;
  expect(kms('AppRegistered', { appId: app })).toBe(app);
  expect(kms('AppDeployedViaFactory', { appId: app })).toBe(app);
  expect(kms('PolicyChanged', { policy: policy('registered-app'), value: word })).toBe(app);
  expect(kms('PolicyChanged', { policy: policy('blocked-app'), value: word })).toBeUndefined();
  expect(kms('AppBlocked', { appId: app })).toBeUndefined();
  expect(kms('unknown', {})).toBeUndefined();
  expect(kms('AppRegistered', { appId: ours })).toBeUndefined();
  expect(strangerOf(written(1), isListed)).toBe(app);
  expect(strangerOf(written(9), isListed)).toBeUndefined();
  expect(strangerOf(event({ source: 'safe', name: 'ApproveHash' }), isListed)).toBeUndefined();
});

test.each([
  ['many events', 501, 0, 500],
  ['large ones', 40, 32_768, 31],
])('of one app not more is kept than its measure: %s', (_, events, characters, expected) => {
  const share = new StrangersShare(() => [], isListed);
  const flood = Array.from({ length: events }, () => written(1, characters));
  const { kept, leftOut, muted, alerts } = share.admit([...flood, written(2), written(9)]);
  expect(kept).toHaveLength(expected + 2);
  expect(leftOut.size).toBe(events - expected);
  expect([...muted.keys()]).toEqual([numberedApp(1)]);
  expect(alerts.map(({ rule }) => rule)).toEqual(['app-muted']);
});

test('all of them together have one share, which the journal itself fills', () => {
  const entries: JournalEntry[] = [];
  const share = new StrangersShare(() => entries, isListed, 100_000);
  let left = 0;
  for (let app = 10; app < 60; app += 1) {
    const { kept, leftOut } = share.admit([written(app, 10_000), written(9, 10_000)]);
    left += leftOut.size;
    for (const one of kept) entries.push({ type: 'event', event: one });
  }
  expect(left).toBe(50 - 9);
  // Another one that begins with the same journal decides alike.
  for (const one of [share, new StrangersShare(() => entries, isListed, 100_000)]) {
    const { kept, muted, alerts } = one.admit([written(70, 10_000), written(71, 10_000), event({})]);
    expect(kept).toHaveLength(1);
    expect(muted.size).toBe(2);
    expect(alerts.map(({ rule }) => rule)).toEqual(['strangers-left-out']);
  }
});
