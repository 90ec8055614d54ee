import { existsSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { pipeline } from 'node:stream/promises';

const MAX_BODY = 4 * 1024 * 1024;
const MAX_MESSAGE = 1024;

/** Docker answered with another status than 200. */
export class DockerRefusal extends Error {
  readonly status: number;

  constructor(status: number, text: string) {
    super(`Docker responded with status code ${status}: ${text}`);
    this.status = status;
  }
}

/** A request to Docker's API. */
export interface DockerCall {
  readonly path: string;
  readonly signal: AbortSignal;
  /** Sent by POST as it comes. */
  readonly content?: AsyncIterable<Uint8Array>;
}

/**
 * Calls Docker's API at its Unix socket.
 *
 * @returns the answer, when its status is 200
 * @throws DockerRefusal with Docker's words, Error when nobody answers
 */
export function dockerRequest(
  socketPath: string,
  { path, signal, content }: DockerCall,
): Promise<IncomingMessage> {
  if (!existsSync(socketPath)) return Promise.reject(new Error(`Socket not found: ${socketPath}`));
  return new Promise((resolve, reject) => {
    const type = content === undefined ? {} : { 'content-type': 'application/x-tar' };
    const options = {
      ...{ socketPath, path, signal, headers: { host: 'docker', ...type } },
      method: content === undefined ? 'GET' : 'POST',
    };
    const outgoing = request(options, (response) => {
      const status = response.statusCode ?? 0;
      if (status === 200) return resolve(response);
      dockerBody(response).then((bytes) => reject(new DockerRefusal(status, messageOf(bytes))), reject);
    });
    outgoing.once('error', reject);
    if (content === undefined) outgoing.end();
    else
      pipeline(content, outgoing).catch((cause: Error) => {
        outgoing.destroy();
        reject(cause);
      });
  });
}

/** The whole of an answer. @throws Error when it is larger than any that is expected */
export async function dockerBody(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY) throw new Error('Docker answered too much');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function messageOf(bytes: Buffer): string {
  try {
    const { message } = JSON.parse(bytes.toString('utf8')) as { message?: unknown };
    return typeof message === 'string' ? message.slice(0, MAX_MESSAGE) : '';
  } catch {
    return '';
  }
}
