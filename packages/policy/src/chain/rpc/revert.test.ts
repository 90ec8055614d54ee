import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { reverts } from '../../test/odd-endpoint.ts';
import { isRevert, revertReason } from './revert.ts';

const word = (value: number): string => value.toString(16).padStart(64, '0');
const panic = `0x4e487b71${word(0x11)}`;
const custom = `0xdeadbeef${word(1)}${word(2)}`;

describe('a revert', () => {
  test.each(reverts)('$error.code, $error.message', ({ error, says }) => {
    expect(isRevert(error)).toBe(true);
    expect(revertReason(error)).toBe(says);
  });

  test.each([
    ['a panic', panic, 'panic 0x11'],
    ['an error of the contract’s own', custom, ''],
    ['a text that is cut', `0x08c379a0${word(32)}${word(64)}${word(0)}`, ''],
    ['a text that is longer than all', `0x08c379a0${word(32)}${'f'.repeat(64)}`, ''],
  ])('with %s', (_, data, says) => {
    for (const code of [3, -32_000, -32_015, -32_603]) {
      const error = { code, message: 'Internal error', data };
      expect(isRevert(error)).toBe(true);
      expect(revertReason(error)).toBe(says);
    }
  });

  test('what it says is fit to show', () => {
    const message = `execution reverted: see https://rpc.example.com/key\n\u001b[31m${'x'.repeat(1_000)}`;
    const said = revertReason({ code: 3, message });
    expect(said).toMatch(/^see <address>/);
    expect(said).not.toMatch(/\p{Cc}/u);
    expect(Buffer.byteLength(said)).toBeLessThanOrEqual(512);
  });
});

test.each([
  { code: -32_000, message: 'header not found' },
  { code: -32_000, message: 'execution aborted (timeout = 5s)' },
  { code: -32_603, message: 'Internal error' },
  { code: -32_603, message: 'Internal error', data: { hash: `0x${word(1)}` } },
  { code: -32_603, message: 'Internal error', data: `0x${word(1)}` },
  { code: -32_015, message: 'VM execution error.', data: 'Timeout' },
  { code: 429, message: 'slow down', data: {} },
  { code: 0, message: 'no message', data: [custom] },
])('$code, $message, $data is no revert', (error) => expect(isRevert(error)).toBe(false));

test('data of any form: an answer in bounded time, and never an error', () => {
  fc.assert(
    fc.property(
      fc.record({ code: fc.integer(), message: fc.string(), data: fc.jsonValue({ maxDepth: 8 }) }),
      (error) => {
        isRevert(error);
        expect(Buffer.byteLength(revertReason(error))).toBeLessThanOrEqual(512);
      },
    ),
    { numRuns: 300 },
  );
  const deep = JSON.parse(`${'{"data":'.repeat(5_000)}"revert"${'}'.repeat(5_000)}`) as unknown;
  expect(isRevert({ code: 1, message: '', data: deep })).toBe(false);
  const long = "reverted with reason string '".repeat(30_000);
  const began = performance.now();
  revertReason({ code: 3, message: '', data: { message: long, data: long } });
  expect(performance.now() - began).toBeLessThan(500);
});
