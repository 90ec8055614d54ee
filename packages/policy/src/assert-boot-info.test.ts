import { expect, test } from 'vitest';
import { assertBootInfo } from './assert-boot-info.ts';
import { facts, filled } from './test/facts.ts';

test('accepts full facts, and an empty instance id and mrSystem', () => {
  assertBootInfo(facts());
  assertBootInfo(facts({ instanceId: new Uint8Array(), mrSystem: new Uint8Array(), tcbStatus: '' }));
});

test.each([
  ['appId', 19, '20 bytes'],
  ['appId', 0, '20 bytes'],
  ['composeHash', 31, '32 bytes'],
  ['composeHash', 33, '32 bytes'],
  ['instanceId', 1, '20 bytes or empty'],
  ['deviceId', 0, '32 bytes'],
  ['mrAggregated', 48, '32 bytes'],
  ['mrSystem', 31, '32 bytes or empty'],
  ['osImageHash', 0, '32 bytes'],
])('%s of %d bytes is refused', (field, length, wanted) => {
  expect(() => assertBootInfo(facts({ [field]: filled(length, 1) }))).toThrow(
    expect.objectContaining({
      code: 'invalid-request',
      message: `invalid authorization request: ${field} must be ${wanted}, found ${length} bytes`,
    }),
  );
});

test.each([
  { tcbStatus: 'x'.repeat(129) },
  { advisoryIds: Array.from({ length: 129 }, () => 'a') },
  { advisoryIds: ['x'.repeat(257)] },
  { keyProviderInfo: filled(4097, 1) },
])('unbounded texts are refused %#', (changes) => {
  expect(() => assertBootInfo(facts(changes))).toThrow(expect.objectContaining({ code: 'invalid-request' }));
});
