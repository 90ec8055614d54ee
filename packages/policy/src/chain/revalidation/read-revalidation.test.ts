import { expect, test } from 'vitest';
import { PolicyError } from '../../errors.ts';
import { facts } from '../../test/facts.ts';
import type { DecisionRequest } from '../decision-reader.ts';
import type { ChainSnapshot } from '../snapshot/read-snapshot.ts';
import { readRevalidation } from './read-revalidation.ts';

const block = { number: 7n, hash: '0x7', timestamp: 7, parentHash: '0x6', stateRoot: '0x' };
const snapshot: ChainSnapshot = { chainId: 1, head: block, finalized: block, endpoints: [] };
const request = (call: number): DecisionRequest => ({ kind: 'app', info: facts(), call: `0x${call}` });

test('reads the latest requests again, a few at once; denials and failures are no permissions', async () => {
  let [running, most] = [0, 0];
  const asked: string[] = [];
  const revalidate = readRevalidation(async (_view, at, { call }) => {
    expect(at).toBe(block);
    asked.push(call);
    running += 1;
    most = Math.max(most, running);
    await new Promise(setImmediate);
    running -= 1;
    if (call === '0x3') throw new PolicyError('chain-proof', 'no');
    return { allowed: call !== '0x5', reason: '', gatewayAppId: 'gateway' };
  });
  const requests = Array.from({ length: 200 }, (_, index) => request(index));
  const revalidated = await revalidate(snapshot, { ...block, number: 6n, hash: '0x6' }, block, requests);
  expect(asked).toEqual(requests.slice(0, 64).map(({ call }) => call));
  expect(most).toBe(8);
  expect([...revalidated.keys()]).toEqual(asked.filter((call) => call !== '0x3' && call !== '0x5'));
});
