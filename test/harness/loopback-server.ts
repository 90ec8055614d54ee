/** HTTP servers of the tests' own on loopback: they answer what they are told, or never, and remember what they saw. */
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export type Seen = { readonly method: string; readonly path: string; readonly body: string };

export type LoopbackServer = {
  readonly url: string;
  readonly seen: Seen[];
  close(): Promise<void>;
};

/** Starts a server; `answer` may leave the response open to play dead. */
export async function startLoopbackServer(
  answer: (seen: Seen, response: ServerResponse) => void | Promise<void>,
): Promise<LoopbackServer> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString('utf8');
      const one = { method: request.method ?? '', path: request.url ?? '', body };
      seen.push(one);
      Promise.resolve(answer(one, response)).catch(() => response.destroy());
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** What stands between a client and a server. */
export type Relay = LoopbackServer & {
  /** `hang` takes requests and never answers. */
  mood: 'pass' | 'hang';
  /** How long each request is held back, in milliseconds. */
  delayMs: number;
  /** Changes a request's body before it is passed on. */
  rewrite: ((body: string) => string) | undefined;
};

/** Passes requests on to `target` and answers back, unless told otherwise. */
export async function startRelay(target: string): Promise<Relay> {
  const server = await startLoopbackServer(async ({ method, path, body }, response) => {
    if (relay.mood === 'hang') return;
    if (relay.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, relay.delayMs));
    const sent = relay.rewrite?.(body) ?? body;
    const answer = await fetch(`${target}${path}`, {
      method,
      signal: AbortSignal.timeout(10_000),
      ...(method === 'POST' ? { body: sent, headers: { 'content-type': 'application/json' } } : {}),
    });
    // fetch has undone any compression; every other header is the target's.
    const headers = [...answer.headers].filter(
      ([name]) => !/^(content-|transfer|connection|keep)/.test(name),
    );
    const content = Buffer.from(await answer.arrayBuffer());
    response.writeHead(answer.status, { ...Object.fromEntries(headers), 'content-length': content.length });
    response.end(content);
  });
  const relay: Relay = { ...server, mood: 'pass', delayMs: 0, rewrite: undefined };
  return relay;
}
