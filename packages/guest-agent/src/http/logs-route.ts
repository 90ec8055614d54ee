import type { ServerResponse } from 'node:http';
import { stripVTControlCharacters } from 'node:util';
import { toBase64 } from '@dstack-cloud/encoding';
import { frameworkAnswer, networkOf, type PlainRoute } from '@dstack-cloud/prpc';
import type { Agent } from '../agent/agent.ts';
import { causeChain } from '../errors.ts';
import { CONTAINER_NAME, type Containers, type LogChunk } from '../machine/containers.ts';
import { type LogsRequest, parseLogsQuery } from './logs-query.ts';

const PREFIX = '/logs/';
/** A follower that gets nothing for so long is cut off. */
const IDLE_MS = 600_000;
/** And one that does not read for so long. */
const UNREAD_MS = 20_000;
/** Followers at the same time, and those of one network. */
const MAX_STREAMS = 32;
const MAX_STREAMS_PER_NETWORK = 8;

/** `GET /logs/<container>`, only when the application makes its logs public (chapter 30 section 1.13). */
export function logsRoute(agent: Agent, containers: Containers): PlainRoute {
  let streams = 0;
  const streamsOf = new Map<string, number>();
  return {
    path: `${PREFIX}*`,
    handle: async (request, response, { path, query }) => {
      const name = path.slice(PREFIX.length);
      if (name === '') return frameworkAnswer(422, request);
      // Not decoded: a name that needs escapes could leave the path of the engine's API.
      if (!CONTAINER_NAME.test(name)) return frameworkAnswer(404, request);
      const wanted = parseLogsQuery(query, agent.now());
      if (wanted === 'unprocessable') return frameworkAnswer(422, request);
      if ('streamError' in wanted) return { body: JSON.stringify({ error: wanted.streamError }) };
      if (request.method === 'HEAD') return { body: '' };
      const network = networkOf(request.socket.remoteAddress ?? '');
      const own = streamsOf.get(network) ?? 0;
      if (streams >= MAX_STREAMS || own >= MAX_STREAMS_PER_NETWORK) {
        return { status: 503, body: 'Too many log streams' };
      }
      streams++;
      streamsOf.set(network, own + 1);
      try {
        await stream(response, containers, name, wanted);
      } finally {
        streams--;
        const left = (streamsOf.get(network) ?? 1) - 1;
        if (left > 0) streamsOf.set(network, left);
        else streamsOf.delete(network);
      }
      return 'handled';
    },
  };
}

async function stream(
  response: ServerResponse,
  containers: Containers,
  name: string,
  wanted: LogsRequest,
): Promise<void> {
  const ended = new AbortController();
  const end = () => ended.abort();
  response.once('close', end);
  let idle = setTimeout(end, IDLE_MS);
  response.writeHead(200, {
    'content-type': 'text/plain; charset=utf-8',
    'x-content-type-options': 'nosniff',
  });
  try {
    for await (const chunk of containers.logs(name, wanted.query, ended.signal)) {
      clearTimeout(idle);
      idle = setTimeout(end, IDLE_MS);
      if (!response.write(line(chunk, wanted)) && !(await drained(response, ended.signal))) {
        response.destroy();
        break;
      }
      if (ended.signal.aborted) break;
    }
  } catch (error) {
    if (!ended.signal.aborted) response.write(JSON.stringify({ error: causeChain(error) }));
  } finally {
    clearTimeout(idle);
    response.end();
  }
}

/** One piece of output: bare, or a line of JSON. */
function line({ channel, bytes }: LogChunk, { text, bare, ansi }: LogsRequest): string {
  const message = text ? plain(bytes, bare && !ansi) : toBase64(bytes);
  return bare ? message : `${JSON.stringify({ channel, message })}\n`;
}

function plain(bytes: Uint8Array, withoutAnsi: boolean): string {
  const text = new TextDecoder().decode(bytes);
  return withoutAnsi ? stripVTControlCharacters(text) : text;
}

/** Whether the client took what was written, in time. */
function drained(response: ServerResponse, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const done = (isRead: boolean): void => {
      clearTimeout(timer);
      response.off('drain', read);
      signal.removeEventListener('abort', left);
      resolve(isRead);
    };
    const timer = setTimeout(() => done(false), UNREAD_MS);
    const read = (): void => done(true);
    const left = (): void => done(false);
    response.once('drain', read);
    signal.addEventListener('abort', left);
  });
}
