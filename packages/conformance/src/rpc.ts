import { toHex, utf8Text } from '@dstack-cloud/encoding';
import { Deviation, expectSame, expectText, expectThat } from './case.ts';
import { type Endpoint, exchange, jsonOf } from './endpoint.ts';

const JSON_TYPE = { 'Content-Type': 'application/json' };

/** A method as JSON. @throws Deviation unless it answers 200 with an object */
export async function call(
  endpoint: Endpoint,
  path: string,
  args: object = {},
): Promise<Record<string, unknown>> {
  const answer = await exchange(endpoint, { path, headers: JSON_TYPE, body: JSON.stringify(args) });
  if (answer.status !== 200) throw new Deviation(`${path} answers ${answer.status}: ${textOf(answer.body)}`);
  return jsonOf(answer);
}

/** A call that must fail: the text of its error, and the status. @throws Deviation when it succeeds */
export async function refusal(
  endpoint: Endpoint,
  path: string,
  args: object | string = {},
): Promise<{ status: number; error: string }> {
  const body = typeof args === 'string' ? args : JSON.stringify(args);
  const answer = await exchange(endpoint, { path, headers: JSON_TYPE, body });
  expectThat(answer.status >= 400 && answer.status < 600, `${path} answers ${answer.status}, not an error`);
  expectText('Content-Type of an error', answer.headers['content-type'], /^application\/json\b/);
  const { error } = jsonOf(answer);
  expectText('error', error, /./s);
  return { status: answer.status, error };
}

/** @throws Deviation unless the call fails with this text */
export async function expectRefusal(
  endpoint: Endpoint,
  path: string,
  args: object | string,
  text: RegExp,
): Promise<void> {
  const { status, error } = await refusal(endpoint, path, args);
  expectSame(`Status of ${path}`, status, 400);
  expectText(`Error of ${path}`, error, text);
}

/** Bytes of a member that has lower-case hex. @throws Deviation */
export function hexOf(answer: Record<string, unknown>, name: string, length?: number): string {
  const value = answer[name];
  expectText(name, value, /^([0-9a-f]{2})*$/);
  if (length !== undefined) expectSame(`Bytes of ${name}`, value.length / 2, length);
  return value;
}

/** A member that is a list of hex. @throws Deviation */
export function hexListOf(answer: Record<string, unknown>, name: string, length: number): string[] {
  const value = answer[name];
  expectThat(Array.isArray(value), `${name} is no list`);
  expectSame(`Items of ${name}`, value.length, length);
  return value.map((item: unknown, index) => {
    expectText(`${name}[${index}]`, item, /^([0-9a-f]{2})*$/);
    return item;
  });
}

/** A member that is text. @throws Deviation */
export function textMember(answer: Record<string, unknown>, name: string): string {
  expectText(name, answer[name], /^/);
  return answer[name] as string;
}

export function textOf(bytes: Uint8Array): string {
  try {
    return utf8Text(bytes).slice(0, 200);
  } catch {
    return toHex(bytes.subarray(0, 100));
  }
}
