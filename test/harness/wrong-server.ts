/** A server that stands before a good one and does one thing wrong: for tests of what finds that. */
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, request as tlsRequest } from 'node:https';

export type Question = { method: string; path: string; type: string | undefined; body: Buffer };
export type Reply = { status: number; headers: Record<string, string>; body: Buffer };

/** One thing that a server does otherwise; `name` says which of several listeners is asked. */
export type Wrong = {
  /** Changes the question before the good server has it, or answers it itself by returning a `Reply`. */
  readonly ask?: (question: Question, name: string) => unknown;
  readonly answer?: (reply: Reply, question: Question, name: string) => void;
  /** Sends answers without a length. */
  readonly isChunked?: true;
  /** Leaves the connection open when the client has closed its side. */
  readonly staysOpen?: true;
};

export type Place =
  | { readonly socketPath: string }
  | { readonly host: string; readonly port: number; readonly isTls: boolean; readonly client?: object };

/** Serves at `place` what `good` serves, but for what is wrong. */
export async function startWrongServer(options: {
  readonly name: string;
  readonly good: Place;
  readonly place: { readonly socketPath: string } | { readonly tls?: { cert: string; key: string } };
  readonly wrong: Wrong;
}): Promise<{ readonly port: number; close(): Promise<void> }> {
  const { name, good, place, wrong } = options;
  const listener = (incoming: IncomingMessage, response: ServerResponse): void => {
    relay(incoming, good, wrong, name).then(
      (reply) => send(response, reply, wrong),
      () => response.destroy(),
    );
  };
  const tls = 'tls' in place ? place.tls : undefined;
  const server: Server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
  if (wrong.staysOpen)
    server.on('connection', (socket) => {
      socket.end = () => socket;
    });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    if ('socketPath' in place) server.listen(place.socketPath, resolve);
    else server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function relay(incoming: IncomingMessage, good: Place, wrong: Wrong, name: string): Promise<Reply> {
  const parts: Buffer[] = [];
  for await (const part of incoming) parts.push(part as Buffer);
  const question: Question = {
    method: incoming.method ?? '',
    path: incoming.url ?? '',
    type: incoming.headers['content-type'],
    body: Buffer.concat(parts),
  };
  const asked = { ...question };
  const own = wrong.ask?.(question, name);
  const reply = isReply(own) ? own : await forward(question, good);
  wrong.answer?.(reply, asked, name);
  return reply;
}

function forward({ method, path, type, body }: Question, good: Place): Promise<Reply> {
  const headers = {
    host: 'localhost',
    ...(type === undefined ? {} : { 'content-type': type }),
    ...(method === 'GET' || method === 'HEAD' ? {} : { 'content-length': body.length }),
  };
  const send = 'isTls' in good && good.isTls ? tlsRequest : request;
  const at = 'socketPath' in good ? good : { ...good, ...good.client, rejectUnauthorized: false };
  return new Promise((resolve, reject) => {
    const outgoing = send({ ...at, method, path, headers, agent: false }, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.once('error', reject);
      response.once('end', () => {
        const kept = ['content-type', 'x-app-version', 'server'].flatMap((header) => {
          const value = response.headers[header];
          return typeof value === 'string' ? [[header, value]] : [];
        });
        resolve({
          status: response.statusCode ?? 0,
          headers: Object.fromEntries(kept) as Record<string, string>,
          body: Buffer.concat(parts),
        });
      });
    });
    outgoing.once('error', reject);
    outgoing.end(method === 'GET' || method === 'HEAD' ? undefined : body);
  });
}

function send(response: ServerResponse, { status, headers, body }: Reply, wrong: Wrong): void {
  response.writeHead(
    status,
    wrong.isChunked ? headers : { ...headers, 'content-length': String(body.length) },
  );
  if (wrong.isChunked) response.write('');
  response.end(body);
}

function isReply(value: unknown): value is Reply {
  return typeof value === 'object' && value !== null && 'status' in value;
}

/** A JSON answer of its own. */
export function reply(status: number, value: unknown): Reply {
  return {
    status,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify(value)),
  };
}

type Members = Record<string, unknown>;

/** Changes the JSON answers to paths that match. */
export function answersOf(
  path: RegExp,
  change: (members: Members, question: Question, name: string) => void,
): Wrong {
  return {
    answer: (given, question, name) => {
      if (!path.test(question.path) || !/json/.test(given.headers['content-type'] ?? '')) return;
      const value: unknown = JSON.parse(given.body.toString());
      if (typeof value !== 'object' || value === null) return;
      change(value as Members, question, name);
      given.body = Buffer.from(JSON.stringify(value));
    },
  };
}

/** Changes the JSON of questions to paths that match. */
export function questionsOf(path: RegExp, change: (members: Members, name: string) => void): Wrong {
  return {
    ask: (question, name) => {
      if (!path.test(question.path) || question.body.length === 0) return;
      let value: unknown;
      try {
        value = JSON.parse(question.body.toString());
      } catch {
        return;
      }
      if (typeof value !== 'object' || value === null) return;
      change(value as Members, name);
      question.body = Buffer.from(JSON.stringify(value));
    },
  };
}
