import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { stripVTControlCharacters } from 'node:util';
import { toBase64 } from '@dstack-cloud/encoding';
import { frameworkAnswer, type PlainResponse, type PlainRoute } from '@dstack-cloud/prpc';
import { errorChain } from '@dstack-cloud/runtime';
import type { Agent } from '../agent/agent.ts';
import { CONTAINER_NAME, type Containers, type LogChunk, type ReadLog } from '../machine/containers.ts';
import type { PublicLimits } from '../public/public-limits.ts';
import { type LogsRequest, parseLogsQuery } from './logs-query.ts';

const PREFIX = '/logs/';
/** A follower that gets nothing for so long is cut off. */
const IDLE_MS = 600_000;
/** A reader that takes nothing for so long. */
const UNREAD_MS = 20_000;
/** Nobody follows longer than this; who wants more asks again. */
const MAX_MS = 3_600_000;
/** Longest answer, bytes of output. */
const MAX_BYTES = 256 * 1024 * 1024;

/**
 * `GET /logs/<container>`, only when the application makes its logs public (docs/protocol/guest-agent.md section 5).
 */
export function logsRoute(agent: Agent, containers: Containers, limits: PublicLimits): PlainRoute {
  return {
    path: `${PREFIX}*`,
    handle: async (request, response, { path, query }) => {
      const name = path.slice(PREFIX.length);
      if (name === '') return frameworkAnswer(422, request);
      // Not decoded: a name that needs escapes could leave the path of the engine's API.
      if (!CONTAINER_NAME.test(name)) return frameworkAnswer(404, request);
      const source: ReadLog = (wanted, signal) => containers.logs(name, wanted, signal);
      return await answer({ agent, limits, source, query }, request, response);
    },
  };
}

/**
 * `GET /journal`, for what the machine itself says, by the rule, the query and the bounds of containers' logs.
 */
export function journalRoute(agent: Agent, source: ReadLog, limits: PublicLimits): PlainRoute {
  return {
    path: '/journal',
    handle: async (request, response, { query }) =>
      await answer({ agent, limits, source, query }, request, response),
  };
}

interface LogSource {
  readonly agent: Agent;
  readonly limits: PublicLimits;
  readonly source: ReadLog;
  readonly query: string;
}

async function answer(
  { agent, limits, source, query }: LogSource,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<PlainResponse | 'handled'> {
  const wanted = parseLogsQuery(query, agent.now());
  if (wanted === 'unprocessable') return frameworkAnswer(422, request);
  if ('streamError' in wanted) return { body: JSON.stringify({ error: wanted.streamError }) };
  if (request.method === 'HEAD') return { body: '' };
  const giveBack = limits.takeStream(request);
  if (giveBack === undefined) return { status: 503, body: 'Too many log streams' };
  try {
    await stream(request, response, source, wanted);
  } finally {
    giveBack();
  }
  return 'handled';
}

async function stream(
  request: IncomingMessage,
  response: ServerResponse,
  source: ReadLog,
  wanted: LogsRequest,
): Promise<void> {
  const ended = new AbortController();
  const end = () => ended.abort();
  response.once('close', end);
  // Of a follower nothing else shows that it is gone, as long as there is nothing to write.
  if (wanted.query.follow) request.socket.once('end', end);
  const last = setTimeout(end, MAX_MS);
  let idle = setTimeout(end, IDLE_MS);
  let left = MAX_BYTES;
  response.writeHead(200, {
    'content-type': 'text/plain; charset=utf-8',
    'x-content-type-options': 'nosniff',
  });
  try {
    for await (const chunk of source(wanted.query, ended.signal)) {
      clearTimeout(idle);
      idle = setTimeout(end, IDLE_MS);
      left -= chunk.bytes.length;
      if (left < 0) break;
      if (!response.write(line(chunk, wanted)) && !(await drained(response, ended.signal))) break;
      if (ended.signal.aborted) break;
    }
  } catch (error) {
    if (!ended.signal.aborted) response.write(JSON.stringify({ error: errorChain(error) }));
  } finally {
    clearTimeout(idle);
    clearTimeout(last);
    request.socket.off('end', end);
    end();
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

/** Whether the reader took what was written, in time. */
async function drained(response: ServerResponse, signal: AbortSignal): Promise<boolean> {
  try {
    await once(response, 'drain', { signal: AbortSignal.any([signal, AbortSignal.timeout(UNREAD_MS)]) });
    return true;
  } catch {
    response.destroy();
    return false;
  }
}
