import { get } from 'node:http';
import { printableLine } from '@dstack-cloud/encoding';
import { type CvmStatus, callGuest } from '@dstack-cloud/vmm';
import type { Context } from '../../context.ts';
import { CliError } from '../../errors.ts';
import type { LogRequest } from '../platform.ts';

const SILENCE_MS = 30_000;
/** As long as a machine's own log has them. */
const MAX_LINE = 64 * 1024;

/** Prints the log of one container of a virtual machine, which its agent shows when the application makes logs public. */
export async function containerLogs(
  context: Context,
  machine: CvmStatus,
  request: LogRequest & { readonly container: string },
): Promise<void> {
  const { run_dir, status, urls } = machine.state;
  const agent = urls['agent'];
  if (status !== 'running' || agent === undefined || run_dir === null)
    throw new CliError('not_deployed', `${machine.name} is not running, and containers end with it`, {
      hint: 'dstack-cloud start; the console of the last run: dstack-cloud logs',
    });
  const container = await containerName(run_dir, request.container);
  const lines: string[] = [];
  const show = (line: string): void => {
    if (request.follow) context.record({ line });
    else lines.push(line);
    context.print(printableLine(line, MAX_LINE));
  };
  const query = new URLSearchParams({ text: 'true', bare: 'true', tail: String(request.lines) });
  if (request.follow) query.set('follow', 'true');
  const url = `${agent}/logs/${encodeURIComponent(container)}?${query}`;
  await read(url, request, AbortSignal.any([context.signal, context.unread]), show);
  if (request.follow) context.print('Stopped following logs.');
  else context.result({ lines });
}

/** Project of the application's containers in a guest. */
const PROJECT = 'dstack';

/** The container of that name, or of that service. */
async function containerName(runDir: string, wanted: string): Promise<string> {
  const answer = (await callGuest(runDir, 'ListContainers')) as { containers?: { names?: string[] }[] };
  const names = (answer.containers ?? []).flatMap((one) =>
    (one.names ?? []).map((name) => name.replace(/^\//, '')),
  );
  const found = [wanted, `${PROJECT}-${wanted}-1`].find((name) => names.includes(name));
  if (found !== undefined) return found;
  throw new CliError('bad_argument', `There is no container ${wanted}`, {
    expected: names.length === 0 ? 'a container, but none runs' : names.sort().join(', '),
    found: wanted,
  });
}

async function read(
  url: string,
  { container, follow }: LogRequest,
  signal: AbortSignal,
  show: (line: string) => void,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const fail = (error: Error): void => {
      if (signal.aborted) resolve();
      else reject(error);
    };
    const asked = get(url, { signal }, (response) => {
      if (response.statusCode !== 200) {
        response.resume();
        fail(refused(container ?? '', response.statusCode ?? 0));
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
