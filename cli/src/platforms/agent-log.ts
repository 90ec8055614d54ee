import { get as getHttp } from 'node:http';
import { get as getHttps } from 'node:https';
import { printableLine } from '@dstack-cloud/encoding';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';

const SILENCE_MS = 30_000;
/** As long as a machine's own log has them. */
const MAX_LINE = 64 * 1024;

interface AgentLogRequest {
  readonly lines: number;
  readonly follow: boolean;
}

/** Prints the log of one container, which the guest agent at `agent` shows when the application makes logs public. */
export async function printAgentLog(
  context: Context,
  agent: string,
  container: string,
  request: AgentLogRequest,
): Promise<void> {
  await print(context, agent, { path: `logs/${encodeURIComponent(container)}`, name: container }, request);
}

/** Prints the journal of the machine, by the same rule. */
export async function printAgentJournal(
  context: Context,
  agent: string,
  request: AgentLogRequest,
): Promise<void> {
  await print(context, agent, { path: 'journal', name: 'the machine' }, request);
}

async function print(
  context: Context,
  agent: string,
  { path, name }: { readonly path: string; readonly name: string },
  request: AgentLogRequest,
): Promise<void> {
  const lines: string[] = [];
  const show = (line: string): void => {
    if (request.follow) context.record({ line });
    else lines.push(line);
    context.print(printableLine(line, MAX_LINE));
  };
  const query = new URLSearchParams({ text: 'true', bare: 'true', tail: String(request.lines) });
  if (request.follow) query.set('follow', 'true');
  const url = `${agent.replace(/\/$/, '')}/${path}?${query}`;
  await read(url, name, request.follow, AbortSignal.any([context.signal, context.unread]), show);
  if (request.follow) context.print('Stopped following logs.');
  else context.result({ lines });
}

async function read(
  url: string,
  container: string,
  follow: boolean,
  signal: AbortSignal,
  show: (line: string) => void,
): Promise<void> {
  const get = url.startsWith('https:') ? getHttps : getHttp;
  await new Promise<void>((resolve, reject) => {
    const fail = (error: Error): void => {
      if (signal.aborted) resolve();
      else reject(error);
    };
    const asked = get(url, { signal }, (response) => {
      if (response.statusCode !== 200) {
        response.resume();
        fail(refused(container, response.statusCode ?? 0));
        return;
      }
      let rest = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        const all = `${rest}${chunk}`.split('\n');
        rest = (all.pop() ?? '').slice(0, MAX_LINE);
        for (const line of all) show(line);
      });
      response.once('end', () => {
        if (rest !== '') show(rest);
        resolve();
      });
      response.once('error', fail);
    });
    if (!follow) asked.setTimeout(SILENCE_MS, () => asked.destroy(new Error('the agent does not answer')));
    asked.once('error', (cause) =>
      fail(new CliError('unreachable', `No log of ${container}: ${cause.message}`, { cause })),
    );
  });
}

function refused(container: string, status: number): CliError {
  return new CliError('unreachable', `The agent shows no log of ${container} (status ${status})`, {
    expected: 'public_logs true in app.json',
    found: `status ${status}`,
    hint: 'Set public_logs to true and deploy again',
  });
}
