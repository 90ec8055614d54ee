/** One prpc call as a stranger would make it: plain HTTPS, with or without a client certificate. */
import { request } from 'node:https';

export type Answer = { status: number; headers: Record<string, string | string[] | undefined>; body: string };
export type ClientIdentity = {
  cert: string;
  key: string;
  /** Address to come from, where the system lets one choose. */
  localAddress?: string;
};

/** POSTs JSON to `${url}/prpc/${method}?json`. The server is not verified: these calls test the server. */
export function callKms(
  url: string,
  method: string,
  body: unknown = {},
  identity?: ClientIdentity,
): Promise<Answer> {
  return exchange(`${url}/prpc/${method}?json`, 'POST', JSON.stringify(body), identity);
}

/** GETs a path outside RPC: `/health`, `/metrics`. */
export function getPlain(url: string, path: string): Promise<Answer> {
  return exchange(`${url}${path}`, 'GET', '');
}

function exchange(url: string, method: string, body: string, identity?: ClientIdentity): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = request(
      url,
      { method, rejectUnauthorized: false, agent: false, timeout: 30_000, ...identity },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks).toString('utf8'),
          }),
        );
      },
    );
    call.on('timeout', () => call.destroy(new Error(`${url}: no answer within 30 s`)));
    call.on('error', reject);
    call.end(body);
  });
}

/** The `error` text of an answer; fails when it is none. */
export function errorOf(answer: Answer): string {
  const { error } = JSON.parse(answer.body) as { error?: unknown };
  if (answer.status === 200 || typeof error !== 'string') {
    throw new Error(`Expected an error, found ${answer.status}: ${answer.body.slice(0, 200)}`);
  }
  return error;
}
