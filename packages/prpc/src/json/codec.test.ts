import { create, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PrpcError } from '../errors.ts';
import { GetTlsKeyArgsSchema } from '../gen/guest_agent_pb.ts';
import {
  AppIdSchema,
  AppKeyResponseSchema,
  GetAppKeyRequestSchema,
  GetMetaResponseSchema,
  PublicKeyResponseSchema,
} from '../gen/kms_pb.ts';
import { decodeJson, decodeQuery } from './decode-json.ts';
import { encodeJson } from './encode-json.ts';
import { withJsonExtras } from './json-extras.ts';
import { parseJson } from './parse-json.ts';

const id = '1111111111111111111111111111111111111111';

describe('encodeJson (docs/protocol/kms.md section 1.3)', () => {
  test('writes defaults, nulls and numbers in declaration order', () => {
    const text = encodeJson(GetMetaResponseSchema, create(GetMetaResponseSchema, { chainId: 31337n }));
    expect(text).toBe(
      '{"ca_cert":"","allow_any_upgrade":false,"k256_pubkey":"","bootstrap_info":null,"is_dev":false,' +
        '"gateway_app_id":null,"kms_contract_address":null,"chain_id":31337,"app_auth_implementation":null}',
    );
  });

  test('shows extensions only when set', () => {
    const message = create(AppKeyResponseSchema, { keyEpoch: 2 });
    expect(encodeJson(AppKeyResponseSchema, message)).toMatch(/"os_image_hash":"","key_epoch":2}$/);
  });

  test('escapes everything but ASCII and appends marked members', () => {
    const message = withJsonExtras(create(AppIdSchema, { appId: Uint8Array.of(0xab) }), {
      members: { note: 'é' },
    });
    expect(encodeJson(AppIdSchema, message)).toBe('{"app_id":"ab","note":"\\u00e9"}');
    withJsonExtras(message, { omitDefaults: ['app_id'] });
    expect(encodeJson(AppIdSchema, create(AppIdSchema))).toBe('{"app_id":""}');
  });

  test('reads back what it wrote', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 40 }),
        fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
        (bytes, timestamp) => {
          const message = create(PublicKeyResponseSchema, { publicKey: bytes, timestamp });
          const again = decodeJson(PublicKeyResponseSchema, encodeJson(PublicKeyResponseSchema, message));
          expect(toBinary(PublicKeyResponseSchema, again)).toEqual(
            toBinary(PublicKeyResponseSchema, message),
          );
        },
      ),
    );
  });
});

describe('decodeJson', () => {
  test.each([
    `{"app_id":"${id}"}`,
    `{"app_id":"0x${id}"}`,
    `{"app_id":"0x0x${id}"}`,
    `{"app_id":"0X${id}"}`,
    `{"app_id":"${id}","x":1,"x":2}`,
    ` {"app_id" : "${id}"}\n`,
    `{"app\\u005fid":"${id}"}`,
  ])('takes %s', (text) => {
    expect(decodeJson(AppIdSchema, text).appId).toEqual(new Uint8Array(20).fill(0x11));
  });

  // Texts as recorded from the original; those of its JSON library need not stay, these do no harm.
  test.each([
    ['{"app_id":"123"}', 'Odd number of digits at line 1 column 16'],
    ['{"app_id":"zz"}', "Invalid character 'z' at position 0 at line 1 column 15"],
    ['{"app_id":null}', 'invalid type: null, expected a string at line 1 column 14'],
    ['{"app_id":17}', 'invalid type: integer `17`, expected a string at line 1 column 12'],
    [`{"app_id":"11","app_id":"22"}`, 'duplicate field `app_id`'],
    ['{"app_id"', 'EOF while parsing an object at line 1 column 9'],
    [`{"app_id":"11"} x`, 'trailing characters at line 1 column 17'],
    ['null', 'invalid type: null, expected struct AppId at line 1 column 4'],
    ['["11"]', 'invalid type: sequence, expected struct AppId'],
    ['x', 'expected value at line 1 column 1'],
    ['\ufeff{}', 'expected value at line 1 column 1'],
    ['{"app_id":"\\ud800"}', 'lone leading surrogate'],
    ['{"a":01}', 'expected `,` or `}`'],
    ['{"a":1,}', 'key must be a string'],
    ['{"a":"\u0001"}', 'control character'],
  ])('refuses %s', (text, message) => {
    expect(() => decodeJson(AppIdSchema, text)).toThrow(message);
  });

  test.each([
    ['-1', 'invalid value: integer `-1`, expected u32 at line 1 column 17'],
    ['"1"', 'invalid type: string "1", expected u32 at line 1 column 18'],
    ['1.0', 'invalid type: floating point `1.0`, expected u32 at line 1 column 18'],
    ['1e3', 'invalid type: floating point `1e3`, expected u32'],
    ['4294967296', 'invalid value: integer `4294967296`, expected u32'],
    ['true', 'invalid type: boolean `true`, expected u32'],
  ])('refuses api_version %s', (value, message) => {
    expect(() => decodeJson(GetAppKeyRequestSchema, `{"api_version":${value}}`)).toThrow(message);
  });

  test('an empty text means defaults, optional fields take null', () => {
    expect(decodeJson(GetAppKeyRequestSchema, '').apiVersion).toBe(0);
    expect(decodeJson(GetTlsKeyArgsSchema, '{"not_after":null}').notAfter).toBeUndefined();
    const big = decodeJson(GetTlsKeyArgsSchema, '{"not_after":18446744073709551615}');
    expect(big.notAfter).toBe(18446744073709551615n);
  });

  test('takes quoted integers only where told to', () => {
    const text = '{"timestamp":"1700000000"}';
    expect(() => decodeJson(PublicKeyResponseSchema, text)).toThrow(PrpcError);
    expect(decodeJson(PublicKeyResponseSchema, text, { lenientNumbers: true }).timestamp).toBe(1700000000n);
  });

  test('agrees with the runtime on what is JSON', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        expect(() => parseJson(text)).not.toThrow();
      }),
    );
    fc.assert(
      fc.property(fc.string(), (text) => {
        let ours = true;
        let theirs = true;
        try {
          parseJson(text);
        } catch (error) {
          expect(error).toBeInstanceOf(PrpcError);
          ours = false;
        }
        try {
          JSON.parse(text);
        } catch {
          theirs = false;
        }
        expect(ours).toBe(theirs);
      }),
    );
    expect(() => parseJson('['.repeat(100_000))).toThrow('recursion limit');
  });
});

describe('decodeQuery (docs/protocol/kms.md section 1.2)', () => {
  test('reads text, numbers, booleans, arrays', () => {
    const message = decodeQuery(
      GetTlsKeyArgsSchema,
      'subject=a%20b+c&alt_names[0]=x&alt_names[1]=y&usage_ra_tls=true&not_before=17&not_after=&json&0=1',
    );
    expect(message.subject).toBe('a b c');
    expect(message.altNames).toEqual(['x', 'y']);
    expect(message.usageRaTls).toBe(true);
    expect(message.notBefore).toBe(17n);
    expect(message.notAfter).toBeUndefined();
    expect(decodeQuery(GetTlsKeyArgsSchema, 'alt_names[]=x&alt_names[]=y').altNames).toEqual(['x', 'y']);
    expect(decodeQuery(GetTlsKeyArgsSchema, 'subject=%zz').subject).toBe('%zz');
    expect(decodeQuery(AppIdSchema, `app_id=0x${id}`).appId).toHaveLength(20);
  });

  test.each([
    ['subject=a&subject=b', 'Multiple values for one key'],
    ['alt_names=x', 'expected a sequence'],
    ['usage_ra_tls=1', 'not `true` or `false`'],
    ['usage_ra_tls=', 'not `true` or `false`'],
    ['subject=%ff', 'utf-8'],
    ['a[b][c][d][e][f][g]=1', 'nested too deeply'],
    ['a[b=1', 'Invalid field name'],
    ['not_before=-1', 'invalid value'],
    ['not_before=x', 'invalid digit'],
  ])('refuses %s', (query, message) => {
    expect(() => decodeQuery(GetTlsKeyArgsSchema, query)).toThrow(message);
  });
});
