import { create, toBinary } from '@bufbuild/protobuf';
import { fromHex } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PrpcError } from '../errors.ts';
import { GetKeyArgsSchema } from '../gen/guest_agent_pb.ts';
import { GetAppKeyRequestSchema, GetMetaResponseSchema, KmsKeyResponseSchema } from '../gen/kms_pb.ts';
import { checkWire } from './check-wire.ts';

const PREFIX = 'failed to decode Protobuf message: ';

describe('checkWire', () => {
  // As recorded from the original.
  test.each([
    ['0a056162', 'GetKeyArgs.path: buffer underflow'],
    ['0801', 'GetKeyArgs.path: invalid wire type: Varint (expected LengthDelimited)'],
    ['0a01ff', 'GetKeyArgs.path: invalid string value: data is not UTF-8 encoded'],
    ['0001', 'invalid tag value: 0'],
    ['ffffffffffffffffffff01', 'invalid varint'],
    ['0b0c', 'GetKeyArgs.path: invalid wire type: StartGroup (expected LengthDelimited)'],
    ['7b227061746822', 'buffer underflow'],
    ['0aff', 'GetKeyArgs.path: invalid varint'],
  ])('%s: %s', (hex, message) => {
    expect(() => checkWire(GetKeyArgsSchema, fromHex(hex))).toThrow(PREFIX + message);
  });

  test.each(['', '0a0161', 'a3060801a406', 'a1060102030405060708', 'a50601020304', '9a060178'])(
    'takes %s, unknown fields and groups included',
    (hex) => {
      expect(() => checkWire(GetKeyArgsSchema, fromHex(hex))).not.toThrow();
    },
  );

  test('names nested fields from the outside in', () => {
    expect(() => checkWire(KmsKeyResponseSchema, fromHex('12021001'))).toThrow(
      `${PREFIX}KmsKeyResponse.keys: KmsKeys.k256_key: invalid wire type`,
    );
  });

  test('takes what the runtime writes, and refuses the rest without any other error', () => {
    const meta = create(GetMetaResponseSchema, {
      caCert: 'x',
      chainId: 1n,
      isDev: true,
      bootstrapInfo: { caPubkey: Uint8Array.of(1) },
      rootHistory: [{ k256Pubkey: Uint8Array.of(2) }],
    });
    expect(() => checkWire(GetMetaResponseSchema, toBinary(GetMetaResponseSchema, meta))).not.toThrow();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        try {
          checkWire(GetAppKeyRequestSchema, bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(PrpcError);
        }
      }),
    );
    expect(() => checkWire(GetKeyArgsSchema, new Uint8Array(100_000).fill(0xa3))).toThrow(PrpcError);
  });
});
