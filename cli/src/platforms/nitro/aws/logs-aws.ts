import { setTimeout as sleep } from 'node:timers/promises';
import { printableLine } from '@dstack-cloud/encoding';
import { CliError } from '../../../errors.ts';
import type { ProjectState } from '../../../project/state-file.ts';
import type { LogRequest, Place } from '../../platform.ts';
import { openAws } from './aws-place.ts';
import { logScript } from './host-script.ts';
import { runOnHost } from './host-shell.ts';
import { findInstance } from './own-instance.ts';

const POLL_MS = 5_000;
/** What SSM returns of one command is bounded. */
const MAX_LINES = 1000;
const MAX_LINE = 16_384;
const CURSOR = /^-- cursor: (\S+)$/;

/** What the enclave's units say on its parent instance; an enclave itself has no console outside of debug mode. */
export async function logsAws(place: Place, _state: ProjectState, request: LogRequest): Promise<void> {
  const { context } = place;
  if (request.container !== undefined)
    throw new CliError('bad_argument', 'An enclave has no containers', { hint: 'Leave --container out' });
  const aws = await openAws(place);
  const live = await findInstance(aws);
  if (live?.InstanceId === undefined || live.State?.Name !== 'running')
    throw new CliError('not_deployed', `The parent instance of ${aws.settings.instance} does not run`, {
      found: live?.State?.Name ?? 'none',
      hint: 'dstack-cloud start, or dstack-cloud deploy',
    });
  let lines = Math.min(request.lines, MAX_LINES);
  let cursor: string | undefined;
  for (;;) {
    const text = await runOnHost(aws, live, 'logs', logScript(lines, cursor));
    for (const line of text.split('\n')) {
      const next = CURSOR.exec(line)?.[1];
      if (next !== undefined) cursor = next;
      else if (line !== '' && !line.startsWith('-- ')) context.print(printableLine(line, MAX_LINE));
    }
    if (!request.follow) return;
    lines = MAX_LINES;
    await sleep(POLL_MS, undefined, { signal: context.signal }).catch(() => undefined);
    if (context.signal.aborted) break;
  }
  context.print('Stopped following logs.');
}
