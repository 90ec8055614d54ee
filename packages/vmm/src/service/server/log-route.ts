import type { IncomingMessage, ServerResponse } from 'node:http';
import type { PlainResponse, PlainRoute } from '@dstack-cloud/prpc';
import { VmmError } from '../../errors.ts';
import { cvmLogs, followCvmLogs, type LogOptions } from '../../logs/logs.ts';
import type { Machines } from '../machines/machines.ts';

const DEFAULT_LINES = 10_000;
const MAX_LINES = 100_000;
const HEARTBEAT_MS = 60_000;
/** What a reader may leave unread; whoever is further behind is let go. */
const MAX_UNREAD = 4 * 2 ** 20;
/** Control sequences of terminals as log files hold them: made visible. */
const ANSI = /\\u\{1b\}\[[0-9;?]*[A-Za-z]/g;

const CHANNELS = new Map<string, NonNullable<LogOptions['channel']>>([
  ['serial', 'serial'],
  ['stdout', 'qemu'],
  ['stderr', 'supervisor'],
]);

interface Wanted {
  readonly id: string;
  readonly follow: boolean;
  readonly ansi: boolean;
  readonly options: LogOptions;
}

/** `GET /logs`: a machine's logs as text, followed on request. */
export function logRoute(machines: Pick<Machines, 'find'>, maxStreams: number): PlainRoute {
  let streams = 0;
  return {
    path: '/logs',
    handle: async (request, response, { query }) => {
      const wanted = readQuery(query);
      if (typeof wanted === 'string') return plain(400, wanted);
      try {
        const { status } = await machines.find(wanted.id);
        if (!wanted.follow) {
          const lines = await cvmLogs(status.dir, wanted.options);
          return { type: TEXT, body: lines.map((line) => `${shown(line, wanted)}\n`).join('') };
        }
        if (streams >= maxStreams) return plain(503, `More than ${maxStreams} logs are followed already`);
        streams += 1;
        try {
          await follow(status.dir, wanted, request, response);
        } finally {
          streams -= 1;
        }
        return 'handled';
      } catch (error) {
        if (!(error instanceof VmmError)) throw error;
        if (!response.headersSent) return plain(error.code === 'not_found' ? 404 : 400, error.message);
        response.end();
        return 'handled';
      }
    },
  };
}

async function follow(
  dir: string,
  wanted: Wanted,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const gone = new AbortController();
  for (const stream of [request, response]) stream.once('close', () => gone.abort());
  response.writeHead(200, { 'Content-Type': TEXT, 'X-Accel-Buffering': 'no', 'Cache-Control': 'no-store' });
  response.flushHeaders();
  let last = performance.now();
  const write = (text: string): void => {
    last = performance.now();
    response.write(text);
    if (response.writableLength > MAX_UNREAD) gone.abort();
  };
  const heartbeat = setInterval(() => {
    if (performance.now() - last >= HEARTBEAT_MS) write('[vmm heartbeat]\n');
  }, HEARTBEAT_MS / 4);
  try {
    await followCvmLogs(dir, wanted.options, (line) => write(`${shown(line, wanted)}\n`), gone.signal);
  } finally {
    clearInterval(heartbeat);
    if (response.writableLength > MAX_UNREAD) response.destroy();
    else response.end();
  }
}

function readQuery(query: string): Wanted | string {
  const values = new URLSearchParams(query);
  const id = values.get('id');
  const follow = values.get('follow');
  const ansi = values.get('ansi');
  if (id === null) return 'id is missing';
  if (follow !== 'true' && follow !== 'false') return 'follow must be true or false';
  if (ansi !== 'true' && ansi !== 'false') return 'ansi must be true or false';
  const lines = values.get('lines') ?? String(DEFAULT_LINES);
  if (!/^\d{1,9}$/.test(lines)) return 'lines must be a number';
  const channel = CHANNELS.get(values.get('ch') ?? 'serial');
  if (channel === undefined) return 'ch must be serial, stdout or stderr';
  const options = { lines: Math.min(Number(lines), MAX_LINES), channel };
  return { id, follow: follow === 'true', ansi: ansi === 'true', options };
}

const TEXT = 'text/plain; charset=utf-8';

const plain = (status: number, text: string): PlainResponse => ({ status, body: `${text}\n` });

const shown = (line: string, { ansi }: Wanted): string => (ansi ? line : line.replace(ANSI, ''));
