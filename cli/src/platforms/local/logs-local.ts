import { printableLine } from '@dstack-cloud/encoding';
import { cvmLogs, followCvmLogs } from '@dstack-cloud/vmm';
import { CliError } from '../../errors.ts';
import type { ProjectState } from '../../project/state-file.ts';
import type { LogRequest, Place } from '../platform.ts';
import { containerLogs, journalOfGuest } from './container-logs.ts';
import { machineIfThere, projectMachine } from './paths.ts';

/** As long as the machine's log has them. */
const MAX_LINE = 64 * 1024;

/** Prints the console of the machine, its journal, or one container's log. */
export async function logsLocal(place: Place, state: ProjectState, request: LogRequest): Promise<void> {
  const { context } = place;
  const dir = projectMachine(place, state);
  const machine = await machineIfThere(dir);
  if (machine?.manifest?.driver === 'vm' && request.container !== undefined)
    return await containerLogs(context, machine, { ...request, container: request.container });
  if (request.journal) {
    if (machine?.manifest?.driver === 'vm') return await journalOfGuest(context, machine, request);
    throw new CliError('bad_argument', 'Only a virtual machine has a journal', {
      hint: 'dstack-cloud logs shows what the processes of this machine say',
    });
  }
  const options = {
    lines: request.lines,
    ...(request.container === undefined ? {} : { container: request.container }),
  };
  if (!request.follow) {
    const lines = await cvmLogs(dir, options);
    context.result({ lines });
    for (const line of lines) context.print(printableLine(line, MAX_LINE));
    return;
  }
  const show = (line: string): void => {
    context.record({ line });
    context.print(printableLine(line, MAX_LINE));
  };
  await followCvmLogs(dir, options, show, AbortSignal.any([context.signal, context.unread]));
  context.print('Stopped following logs.');
}
