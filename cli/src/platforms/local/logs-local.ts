import { cvmLogs, followCvmLogs } from '@dstack-cloud/vmm';
import type { ProjectState } from '../../project/state-file.ts';
import type { LogRequest, Place } from '../platform.ts';

/** Prints the console of the machine, or one container's log. */
export async function logsLocal(place: Place, state: ProjectState, request: LogRequest): Promise<void> {
  const { context } = place;
  const options = {
    lines: request.lines,
    ...(request.container === undefined ? {} : { container: request.container }),
  };
  if (!request.follow) {
    const lines = await cvmLogs(state.machine_dir, options);
    context.result({ lines });
    for (const line of lines) context.print(line);
    return;
  }
  const show = (line: string): void => {
    if (context.json) context.stdout(`${JSON.stringify({ line })}\n`);
    else context.print(line);
  };
  await followCvmLogs(state.machine_dir, options, show, context.signal);
  context.print('Stopped following logs.');
}
