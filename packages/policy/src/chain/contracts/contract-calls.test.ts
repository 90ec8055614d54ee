import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { bytesToHex, encodeAbiParameters, encodeFunctionData, type Hex, parseAbi } from 'viem';
import { describe, expect, test } from 'vitest';
import { facts, filled } from '../../test/facts.ts';
import {
  decodeAddress,
  decodeBoolean,
  decodeDecision,
  decodeText,
  encodeDecisionCall,
  encodeIsPolicy,
} from './contract-calls.ts';

const abi = parseAbi([
  'struct AppBootInfo { address appId; bytes32 composeHash; address instanceId; bytes32 deviceId; bytes32 mrAggregated; bytes32 mrSystem; bytes32 osImageHash; string tcbStatus; string[] advisoryIds; }',
  'function isAppAllowed(AppBootInfo bootInfo) view returns (bool isAllowed, string reason)',
  'function isKmsAllowed(AppBootInfo bootInfo) view returns (bool isAllowed, string reason)',
  'function supportsInterface(bytes4 interfaceId) view returns (bool)',
]);

const word = (value: number | bigint): string => value.toString(16).padStart(64, '0');

describe('call data', () => {
  test('vector', () => {
    const data = encodeDecisionCall('app', facts());
    expect(data.length / 2 - 1).toBe(516);
    expect(createHash('sha256').update(data).digest('hex')).toBe(
      '3de9c6828fdcc8af68ed904e7c668265a9b3667129334dd9a22a6724754399f2',
    );
  });

  test('supportsInterface(IAppAuth)', () => {
    expect(encodeIsPolicy()).toBe(
      encodeFunctionData({ abi, functionName: 'supportsInterface', args: ['0x1e079198'] }),
    );
  });

  test('says what viem says, for any facts', () => {
    const bytes = (length: number): fc.Arbitrary<Uint8Array> =>
      fc.uint8Array({ minLength: length, maxLength: length });
    const arbitrary = fc.record({
      appId: bytes(20),
      composeHash: bytes(32),
      instanceId: bytes(20),
      deviceId: bytes(32),
      mrAggregated: bytes(32),
      mrSystem: bytes(32),
      osImageHash: bytes(32),
      tcbStatus: fc.string({ unit: 'binary', maxLength: 80 }),
      advisoryIds: fc.array(fc.string({ unit: 'binary', maxLength: 80 }), { maxLength: 5 }),
    });
    fc.assert(
      fc.property(arbitrary, fc.constantFrom('app' as const, 'kms' as const), (info, kind) => {
        const hex = {
          ...info,
          appId: bytesToHex(info.appId),
          composeHash: bytesToHex(info.composeHash),
          instanceId: bytesToHex(info.instanceId),
          deviceId: bytesToHex(info.deviceId),
          mrAggregated: bytesToHex(info.mrAggregated),
          mrSystem: bytesToHex(info.mrSystem),
          osImageHash: bytesToHex(info.osImageHash),
        };
        const functionName = kind === 'app' ? 'isAppAllowed' : 'isKmsAllowed';
        const expected = encodeFunctionData({ abi, functionName, args: [hex] });
        expect(encodeDecisionCall(kind, facts(info))).toBe(expected);
      }),
    );
  });

  test('empty instance id and mrSystem become zero words', () => {
    const empty = encodeDecisionCall(
      'app',
      facts({ instanceId: new Uint8Array(), mrSystem: new Uint8Array() }),
    );
    const zero = encodeDecisionCall('app', facts({ instanceId: filled(20, 0), mrSystem: filled(32, 0) }));
    expect(empty).toBe(zero);
  });
});

describe('answers', () => {
  test.each([
    [
      `0x${word(0)}${word(64)}${word(18)}${'417070206e6f742072656769737465726564'.padEnd(64, '0')}`,
      false,
      'App not registered',
    ],
    [`0x${word(1)}${word(64)}${word(0)}`, true, ''],
  ])('vector %#', (answer, allowed, reason) => {
    expect(decodeDecision(answer)).toEqual({ allowed, reason });
  });

  test('reads what viem writes', () => {
    fc.assert(
      fc.property(fc.boolean(), fc.string({ unit: 'grapheme-ascii', maxLength: 200 }), (allowed, text) => {
        const reason = text.replaceAll('/', '');
        const answer = encodeAbiParameters([{ type: 'bool' }, { type: 'string' }], [allowed, reason]);
        expect(decodeDecision(answer)).toEqual({ allowed, reason });
      }),
    );
  });

  test.each([
    ['nothing', '0x'],
    ['a bool alone', `0x${word(1)}`],
    ['bool 2', `0x${word(2)}${word(64)}${word(0)}`],
    ['a bool with dirt in its high bytes', `0x01${word(1).slice(2)}${word(64)}${word(0)}`],
    ['an offset outside', `0x${word(1)}${word(6400)}${word(0)}`],
    ['an odd offset', `0x${word(1)}${word(65)}${word(0)}${word(0)}`],
    ['a huge offset', `0x${word(1)}${'f'.repeat(64)}${word(0)}`],
    ['a length beyond the end', `0x${word(1)}${word(64)}${word(33)}${word(0)}`],
    ['a huge length', `0x${word(1)}${word(64)}${'f'.repeat(64)}`],
    ['more than any contract needs', `0x${word(1)}${word(64)}${word(0)}${word(0).repeat(600)}`],
  ])('%s is no decision', (_, answer) => expect(decodeDecision(answer)).toBeUndefined());

  test('never throws', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        decodeDecision(bytesToHex(bytes) as Hex);
        decodeText(bytesToHex(bytes) as Hex);
      }),
    );
  });

  test('a reason is cut and cleaned', () => {
    const long = encodeAbiParameters([{ type: 'bool' }, { type: 'string' }], [false, `a${'é'.repeat(600)}`]);
    expect(decodeDecision(long)?.reason).toBe(`a${'é'.repeat(255)}`);
  });

  test('address and bool', () => {
    expect(decodeAddress(`0x${word(0xabcn)}`)).toBe(`0x${'abc'.padStart(40, '0')}`);
    expect(decodeAddress(`0x${'1'.repeat(64)}`)).toBeUndefined();
    expect([decodeBoolean(`0x${word(1)}`), decodeBoolean(`0x${word(3)}`), decodeBoolean('0x')]).toEqual([
      true,
      undefined,
      undefined,
    ]);
  });
});
