import type { WebhookAnswer } from './webhook.ts';

type Question = Record<string, unknown>;

const REQUIRED = ['mrAggregated', 'osImageHash', 'appId', 'composeHash', 'instanceId', 'deviceId'];
const LENGTHS: Readonly<Record<string, number>> = { appId: 40, instanceId: 40 };
const allow = (reason = ''): WebhookAnswer => ({
  body: { isAllowed: true, gatewayAppId: '0xaa', reason, extra: 1 },
});

/** Text of the keys that are missing. */
function missing(question: Question): string[] {
  return REQUIRED.filter((key) => typeof question[key] !== 'string');
}

/** Left-padded hex, as contracts take it; undefined for what is none or too long. */
function padded(question: Question, key: string): string | undefined {
  const hex = String(question[key]).replace(/^0x/, '');
  const length = LENGTHS[key] ?? 64;
  return /^[0-9a-fA-F]*$/.test(hex) && hex.length <= length ? hex.padStart(length, '0') : undefined;
}

/** The auth APIs that a KMS meets, as far as they judge the form of a question. */
export const AUTH_DIALECTS: Readonly<Record<string, (body: string) => WebhookAnswer>> = {
  'auth-eth v0.6': (body) => {
    const question = JSON.parse(body) as Question;
    if (missing(question).length > 0) return { status: 400, body: { statusCode: 400, error: 'Bad Request' } };
    if (REQUIRED.some((key) => padded(question, key) === undefined)) return { status: 500, body: {} };
    // It knows the mode by its old name.
    return typeof question['attestationMode'] === 'string' ? allow() : { status: 500, body: {} };
  },
  'auth-eth, newer': (body) => {
    const question = JSON.parse(body) as Question;
    const bad = [...missing(question), ...REQUIRED.filter((key) => padded(question, key) === undefined)];
    const invalid = { isAllowed: false, reason: 'invalid authorization request', gatewayAppId: '' };
    if (bad.length > 0 || !Array.isArray(question['advisoryIds'])) return { status: 400, body: invalid };
    return typeof question['teeVariant'] === 'string' ? allow() : { status: 400, body: invalid };
  },
  'auth-simple': (body) => {
    const question = JSON.parse(body) as Question;
    const known = ['UpToDate'].includes(String(question['tcbStatus']));
    const listed = `0x${String(question['osImageHash']).toLowerCase()}`.length === 66;
    return known && listed
      ? allow()
      : { body: { isAllowed: false, gatewayAppId: '', reason: 'TCB status is not up to date' } };
  },
  'auth-mock': (body) => allow(`mock app allowed, ${body.length} bytes`),
};
