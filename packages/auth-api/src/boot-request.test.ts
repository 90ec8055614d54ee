import { toHex } from '@dstack-cloud/encoding';
import { webhookBody } from '@dstack-cloud/policy';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { describe, expect, test } from 'vitest';
import { parseBootRequest } from './boot-request.ts';
import { QUESTION_LIMITS } from './question-limits.ts';

const body = {
  attestationMode: 'dstack-tdx',
  mrAggregated: '55'.repeat(32),
  osImageHash: '77'.repeat(32),
  mrSystem: '66'.repeat(32),
  appId: '11'.repeat(20),
  composeHash: '22'.repeat(32),
  instanceId: '33'.repeat(20),
  deviceId: '44'.repeat(32),
  keyProviderInfo: '00',
  tcbStatus: 'UpToDate',
  advisoryIds: ['INTEL-SA-00837'],
};
const parse = (changes: Record<string, unknown>): ReturnType<typeof parseBootRequest> =>
  parseBootRequest(JSON.stringify({ ...body, ...changes }));

describe('accepts', () => {
  test('a body of the 0.6 line', () => {
    expect(parse({})).toMatchObject({ mode: 'dstack-tdx', tcbStatus: 'UpToDate' });
    expect(toHex(parse({}).appId)).toBe('11'.repeat(20));
  });
  test('a body of the newer generation, with hex of any case and 0x', () => {
    const facts = parse({
      attestationMode: undefined,
      teeVariant: 'dstack-gcp-tdx',
      appId: `0x${'AB'.repeat(20)}`,
    });
    expect(facts.mode).toBe('dstack-gcp-tdx');
    expect(toHex(facts.appId)).toBe('ab'.repeat(20));
  });
  test('optional keys left out, and keys it does not know', () => {
    const facts = parse({
      mrSystem: undefined,
      tcbStatus: undefined,
      advisoryIds: undefined,
      keyProviderInfo: 5,
      extra: {},
    });
    expect(facts).toMatchObject({ mrSystem: new Uint8Array(), tcbStatus: '', advisoryIds: [] });
  });
  test('the largest question that a key service may send', () => {
    const { length } = webhookBody({
      ...parse({
        attestationMode: 'm'.repeat(64),
        tcbStatus: 's'.repeat(128),
        advisoryIds: Array.from({ length: 128 }, () => 'a'.repeat(256)),
      }),
      keyProviderInfo: new Uint8Array(4_096),
      hostId: new Uint8Array(32),
    });
    expect(length).toBeLessThan(QUESTION_LIMITS.bytes);
  });
  test.each(['', '0x'])('%j as instanceId and mrSystem', (empty) => {
    expect(parse({ instanceId: empty, mrSystem: empty })).toMatchObject({
      instanceId: new Uint8Array(),
      mrSystem: new Uint8Array(),
    });
  });
});

describe('refuses', () => {
  const required = ['mrAggregated', 'osImageHash', 'appId', 'composeHash', 'instanceId', 'deviceId'];
  test.each(required)('%s missing', (key) => {
    expect(() => parse({ [key]: undefined })).toThrow(
      expect.objectContaining({ code: 'bad-request', message: expect.stringContaining(key) }),
    );
  });
  test.each<[string, unknown]>([
    ['composeHash', '22'.repeat(31)],
    ['composeHash', '22'.repeat(33)],
    ['composeHash', ''],
    ['composeHash', `${'22'.repeat(31)}2`],
    ['composeHash', 'zz'.repeat(32)],
    ['composeHash', 5],
    ['composeHash', null],
    ['appId', '11'.repeat(32)],
    ['appId', `0x0x${'11'.repeat(20)}`],
    ['instanceId', '33'.repeat(19)],
    ['mrSystem', null],
    ['tcbStatus', null],
    ['tcbStatus', 'x'.repeat(129)],
    ['advisoryIds', 'INTEL-SA-1'],
    ['advisoryIds', [1]],
    ['advisoryIds', Array.from({ length: 129 }, () => 'a')],
    ['advisoryIds', ['x'.repeat(257)]],
  ])('%s = %j', (key, value) => {
    expect(() => parse({ [key]: value })).toThrow(expect.objectContaining({ code: 'bad-request' }));
  });
  test.each(['appId', 'composeHash', 'keyProviderInfo'])('%s twice, in the same words or not', (key) => {
    for (const value of [body[key as keyof typeof body], '00']) {
      const text = `{"${key}":${JSON.stringify(value)},${JSON.stringify(body).slice(1)}`;
      expect(() => parseBootRequest(text)).toThrow(
        expect.objectContaining({
          code: 'bad-request',
          message: expect.stringContaining(`Repeated member "${key}"`),
        }),
      );
    }
  });
  test('more values than a question has, at the first of them', () => {
    const text = `{${Array.from({ length: 4_000 }, (_, index) => `"k${index}":1`).join()}}`;
    // It is read no further than this.
    expect(() => parseBootRequest(text)).toThrow(/More than 256 values at line 1 column \d{4}$/);
  });
  test.each(['', '{', 'null', '[]', '5', '"x"'])('%j', (text) => {
    expect(() => parseBootRequest(text)).toThrow(expect.objectContaining({ code: 'bad-request' }));
  });
});

describeWithFixtures('bodies recorded from the original', 'kms-original/transcript.json', () => {
  type Recorded = { cases: { webhook?: { method: string; body: string }[] }[] };
  const bodies = new Set(
    fixtureJson<Recorded>('kms-original/transcript.json').cases.flatMap(({ webhook = [] }) =>
      webhook.filter(({ method }) => method === 'POST').map((one) => one.body),
    ),
  );
  test.each([...bodies])('%s', (recorded) => {
    const facts = parseBootRequest(recorded);
    const fields = JSON.parse(recorded) as Record<string, string>;
    expect(facts.mode).toBe(fields['teeVariant']);
    // What our KMS would send for these facts is the recorded body and the older name.
    const { attestationMode, ...same } = JSON.parse(webhookBody(facts)) as Record<string, unknown>;
    expect(same).toEqual({ ...fields, keyProviderInfo: '' });
    expect(attestationMode).toBe(fields['teeVariant']);
  });
});
