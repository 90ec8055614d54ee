import { type Answer, bytesOf, type Case, sha256Hex } from './replay.ts';

/** Error texts of the agent itself: these must be equal. What JSON, protobuf and query libraries say need not. */
const OWN_TEXTS =
  /^(?:Unsupported algorithm|Report data is too long|invalid content length|invalid hash algorithm|Service not found: .*|Pre-hashed (?:signing|verification) requires .*|not_before must be earlier than not_after|signature error.*|invalid public key)$/s;
/** Members that ours adds to quotes (docs/protocol/guest-agent.md section 4.3). */
const ADDED = ['mrtd', 'rtmr0', 'rtmr1', 'rtmr2', 'rtmr3'];

/** What an answer is compared by: equal shapes are equal answers, apart from the differences that ours always has. */
export interface Shape {
  readonly status: number | null;
  readonly type: string;
  readonly content: unknown;
}

/** Shape of a recorded answer. */
export function recordedShape(one: Case): Shape {
  const type = String(one.headers?.['content-type'] ?? '');
  const { status, response } = one;
  if (one.compare === 'sha256' && response?.sha256 !== undefined) {
    return { status, type, content: [response.length, response.sha256] };
  }
  return shape(status, type, bytesOf(response));
}

/** Shape of our answer, in the form that {@link recordedShape} gives the recorded one. */
export function answeredShape(one: Case, answer: Answer): Shape {
  const type = answer.headers['content-type'] ?? '';
  if (one.compare === 'sha256' && one.response?.sha256 !== undefined) {
    const body = type === 'application/json' ? withoutAdded(answer.body) : answer.body;
    return { status: answer.status, type, content: [body.length, sha256Hex(body)] };
  }
  return shape(answer.status, type, answer.body);
}

function shape(status: number | null, type: string, body: Buffer): Shape {
  if (type.startsWith('text/html')) return { status, type, content: 'page' };
  if (status === 200) {
    return {
      status,
      type,
      content: type === 'application/octet-stream' ? body.toString('hex') : body.toString(),
    };
  }
  const text = errorText(type, body);
  // Ours answers 404 for unknown methods, as later versions of the original do.
  const known = text?.startsWith('Service not found') ? 404 : status;
  return { status: known, type, content: text !== undefined && OWN_TEXTS.test(text) ? text : 'an error' };
}

/** The text of an error in either form; the member `code` that ours adds is no part of it. */
function errorText(type: string, body: Buffer): string | undefined {
  if (type === 'application/json') {
    const { error } = JSON.parse(body.toString()) as { error: unknown };
    return typeof error === 'string' ? error : undefined;
  }
  return type === 'application/octet-stream' && body[0] === 0x0a ? body.subarray(2).toString() : undefined;
}

function withoutAdded(body: Buffer): Buffer {
  const value = JSON.parse(body.toString()) as Record<string, unknown>;
  if (!ADDED.some((name) => name in value)) return body;
  for (const name of ADDED) delete value[name];
  return Buffer.from(JSON.stringify(value));
}
