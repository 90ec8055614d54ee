import type { ServerResponse } from 'node:http';
import { stripVTControlCharacters } from 'node:util';
import { toBase64 } from '@dstack-cloud/encoding';
import { frameworkAnswer, type PlainRoute } from '@dstack-cloud/prpc';
import type { Agent } from '../agent/agent.ts';
import { causeChain } from '../errors.ts';
import { CONTAINER_NAME, type Containers, type LogChunk } from '../machine/containers.ts';
import { type LogsRequest, parseLogsQuery } from './logs-query.ts';

const PREFIX = '/logs/';
/** A follower that gets nothing for so long is cut off. */
const IDLE_MS = 600_000;
/** Followers at the same time. */
const MAX_STREAMS = 32;

/** `GET /logs/<container>`, only when the application makes its logs public (chapter 30 section 1.13). */
export function logsRoute(agent: Agent, containers: Containers): PlainRoute {
  let streams = 0;
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
      if (streams >= MAX_STREAMS) return { status: 503, body: 'Too many log streams' };
      streams++;
      try {
        await stream(response, containers, name, wanted);
      } finally {
        streams--;
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
      if (!response.write(line(chunk, wanted))) await drained(response, ended.signal);
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

function drained(response: ServerResponse, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    response.once('drain', resolve);
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
