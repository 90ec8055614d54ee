import { request as httpRequest } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';

export type Answer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
};

export type ClientIdentity = { readonly cert: string; readonly key: string };

/** One request on a connection of its own; over TLS unless told otherwise, the server's certificate unchecked. */
export function ask(
  port: number,
  path: string,
  options: {
    method?: string;
    body?: Uint8Array | string;
    headers?: Record<string, string>;
    client?: ClientIdentity | undefined;
    plain?: boolean;
  } = {},
): Promise<Answer> {
  const { method = 'POST', body = '', headers = {}, client, plain = false } = options;
  return new Promise((resolve, reject) => {
    const target = { host: '127.0.0.1', port, path, method, headers, timeout: 20_000 };
    const agent = plain ? undefined : new Agent({ rejectUnauthorized: false, ...client });
    const request = (plain ? httpRequest : httpsRequest)(
      { ...target, ...(agent && { agent }) },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          agent?.destroy();
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks),
          });
        });
      },
    );
    request.on('error', reject);
    request.on('timeout', () => request.destroy(new Error('no answer in 20 s')));
    request.end(body);
  });
}

/** A JSON call; the parsed answer. */
export async function call(
  port: number,
  method: string,
  input: unknown = {},
  options: { client?: ClientIdentity | undefined; plain?: boolean } = {},
): Promise<{ status: number; json: Record<string, unknown> }> {
  const { status, body } = await ask(port, `/prpc/${method}?json`, {
    body: JSON.stringify(input),
    ...options,
  });
  return { status, json: JSON.parse(body.toString()) as Record<string, unknown> };
}
