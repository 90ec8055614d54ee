import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

/** A notification above this size is dropped without an answer that says so (chapter 50 section 7.4). */
export const MAX_NOTIFY_PAYLOAD = 4096;
const MAX_BODY_BYTES = 64 * 1024;

export interface Notification {
  readonly event: string;
  readonly payload: string;
}

/**
 * The host side of the machine's door to its host: `POST /api/Info` and `POST /api/Notify` with JSON bodies, on a
 * Unix socket that only this machine is told of. What comes in is shown to the operator and never trusted.
 */
export async function startHostApi(
  socketPath: string,
  onNotify: (notification: Notification) => void,
): Promise<Server> {
  const server = createServer((request, response) => {
    answer(request, onNotify).then(
      (body) => reply(response, 200, body),
      (error: unknown) =>
        reply(response, 400, { error: error instanceof Error ? error.message : String(error) }),
    );
  });
  server.requestTimeout = 10_000;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(socketPath, resolve);
  });
  return server;
}

async function answer(request: IncomingMessage, onNotify: (n: Notification) => void): Promise<unknown> {
  const path = (request.url ?? '').split('?')[0] ?? '';
  const method = path.replace(/^\/api\//, '').replace(/^HostApi\./, '');
  if (method === 'Info') return { name: 'dstack VMM', version: '0.1.0' };
  if (method === 'GetSealingKey') throw new Error('This host has no local key provider');
  if (method !== 'Notify') throw new Error(`Service not found: ${method.slice(0, 64)}`);
  const body: unknown = JSON.parse(await readBody(request));
  const { event, payload } = body as { event?: unknown; payload?: unknown };
  if (typeof event !== 'string' || typeof payload !== 'string' || event.length > 128)
    throw new Error('Notify needs the texts event and payload');
  if (payload.length <= MAX_NOTIFY_PAYLOAD) onNotify({ event, payload });
  return {};
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) throw new Error('Request is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function reply(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  });
  response.end(text);
}
