import { expect, test } from 'vitest';
import { ABIS } from '../events/decode-event.ts';
import type { GovernanceEvent } from '../events/governance-event.ts';
import { GovernanceModel } from '../model/governance-model.ts';
import { newsFilter } from './news-filter.ts';

const event = (source: GovernanceEvent['source'], name: string, appId = ''): GovernanceEvent => ({
  ...{ id: '0'.repeat(32), block: 1, index: 0, time: 1, history: false, source, name },
  ...{ blockHash: `0x${'22'.repeat(32)}`, tx: `0x${'33'.repeat(32)}`, sender: `0x${'44'.repeat(20)}` },
  ...{ address: `0x${'11'.repeat(20)}`, args: { appId } },
});

test('of all events of a Safe, only payments to it are no news', () => {
  const names = ABIS.safe.flatMap((abi) => abi.flatMap((one) => (one.type === 'event' ? [one.name] : [])));
  expect(names).toContain('SafeReceived');
  const isNews = newsFilter(new GovernanceModel());
  expect(names.filter((name) => !isNews(event('safe', name)))).toEqual(['SafeReceived']);
});

test('an app that is registered is news once, before or in the same reading', () => {
  const model = new GovernanceModel();
  model.app('0xa').registered = true;
  const isNews = newsFilter(model);
  expect(['0xa', '0xb', '0xb'].map((app) => isNews(event('kms', 'AppRegistered', app)))).toEqual([
    ...[false, true, false],
  ]);
});
