import { type IncomingMessage, request as plainRequest } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { Readable } from 'node:stream';

/**
 * A request whose body is bytes, sent as they are: `fetch` copies them, and copies of some large chunks wait in memory for the
 * collector. The answer is as that of `fetch`, with `redirect: 'manual'`.
 */
export async function sendBytes(
  url: URL,
  options: {
    readonly method: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: Uint8Array;
    readonly signal: AbortSignal;
  },
): Promise<Response> {
  const { method, body, signal } = options;
  const headers = { ...options.headers, 'content-length': String(body.length) };
  const send = url.protocol === 'https:' ? tlsRequest : plainRequest;
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing = send(url, { method, headers, signal }, resolve);
    outgoing.once('error', reject);
    outgoing.end(body);
  });
  const { statusCode: status = 0 } = answer;
  const given = Object.entries(answer.headersDistinct).flatMap(([name, values = []]) =>
    values.map((value): [string, string] => [name, value]),
  );
  const hasBody = status !== 204 && status !== 304;
  if (!hasBody) answer.resume();
  return new Response(hasBody ? (Readable.toWeb(answer) as ReadableStream<Uint8Array>) : null, {
    status,
    headers: given,
  });
}
