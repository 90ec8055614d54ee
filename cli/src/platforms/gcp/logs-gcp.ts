import { setTimeout as sleep } from 'node:timers/promises';
import { printableLine } from '@dstack-cloud/encoding';
import { CliError } from '../../errors.ts';
import type { ProjectState } from '../../project/state-file.ts';
import { printAgentLog } from '../agent-log.ts';
import type { LogRequest, Place } from '../platform.ts';
import { agentUrl } from './agent-url.ts';
import { explainGcp, isNotFound } from './api/gcp-error.ts';
import { type GcpPlace, openGcp } from './gcp-place.ts';
import { findInstance } from './own-instance.ts';

const MAX_LINE = 64 * 1024;
const POLL_MS = 2_000;
/** Google keeps the last MiB; more pages than that hold are an answer gone wrong. */
const MAX_PAGES = 64;

/** Prints the serial console, or one container's log. */
export async function logsGcp(place: Place, _state: ProjectState, request: LogRequest): Promise<void> {
  const gcp = await openGcp(place);
  if (request.container !== undefined) return await containerLog(gcp, request.container, request);
  const { context } = place;
  const console = new SerialConsole(gcp);
  const first: string[] = [];
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const lines = await console.next();
    if (lines === undefined) break;
    first.push(...lines);
  }
  const shown = request.lines === 0 ? [] : first.slice(-request.lines);
  if (!request.follow) {
    const rest = console.rest;
    const lines = rest === '' ? shown : [...shown, rest].slice(-Math.max(request.lines, 1));
    context.result({ lines });
    for (const line of lines) context.print(printableLine(line, MAX_LINE));
    return;
  }
  const signal = AbortSignal.any([context.signal, context.unread]);
  const show = (line: string): void => {
    context.record({ line });
    context.print(printableLine(line, MAX_LINE));
  };
  for (const line of shown) show(line);
  while (!signal.aborted) {
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) break;
    try {
      for (const line of (await console.next()) ?? []) show(line);
    } catch (error) {
      if (signal.aborted) break;
      throw error;
    }
  }
  context.print('Stopped following logs.');
}

/** Whole lines of a console, by Google's cursor: a position in all that was ever written. */
class SerialConsole {
  rest = '';
  #start = 0n;
  #isFirst = true;

  private readonly gcp: GcpPlace;

  constructor(gcp: GcpPlace) {
    this.gcp = gcp;
  }

  /** Undefined when there is nothing new. */
  async next(): Promise<string[] | undefined> {
    const { settings, compute, place } = this.gcp;
    const { zone, instance } = settings;
    const output = await compute.serialOutput(zone, instance, this.#start).catch((error: unknown) => {
      if (isNotFound(error))
        throw new CliError('not_deployed', `Instance ${instance} does not exist in ${zone}`, {
          hint: 'dstack-cloud status',
        });
      throw explainGcp(`Console of ${instance}`, error);
    });
    // A machine that was started again may begin its console again.
    if (output.next < this.#start) {
      this.#start = 0n;
      this.rest = '';
      return [];
    }
    if (output.start > this.#start && !this.#isFirst)
      place.context.warn(
        `${output.start - this.#start} bytes of the console were overwritten before they could be read`,
      );
    this.#isFirst = false;
    if (output.next === this.#start || output.contents === '') {
      this.#start = output.next;
      return undefined;
    }
    this.#start = output.next;
    const lines = `${this.rest}${output.contents}`.split('\n').map((line) => line.replace(/\r$/, ''));
    this.rest = (lines.pop() ?? '').slice(0, MAX_LINE);
    return lines;
  }
}

/** By the guest agent: the console does not carry what containers print. */
async function containerLog(gcp: GcpPlace, name: string, request: LogRequest): Promise<void> {
  const { place } = gcp;
  const live = await findInstance(gcp);
  if (live === undefined)
    throw new CliError('not_deployed', `Instance ${gcp.settings.instance} does not exist`);
  const agent = await agentUrl(gcp, live);
  if (agent === undefined)
    throw new CliError(
      'unreachable',
      'The guest agent shows the logs of containers, and no firewall rule lets anybody in',
      {
        expected: 'a rule for port 8090',
        hint: 'dstack-cloud fw allow 8090 -s YOUR_ADDRESS/32',
      },
    );
  // A service is a container of the project dstack.
  const service = name.startsWith('dstack-') ? name : `dstack-${name}-1`;
  try {
    await printAgentLog(place.context, agent, service, request);
  } catch (error) {
    const isAbsent = error instanceof CliError && /status (404|500)/.test(error.found ?? '');
    if (!isAbsent || service === name) throw error;
    await printAgentLog(place.context, agent, name, request);
  }
}
