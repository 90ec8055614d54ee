import { type CvmStatus, callGuest } from '@dstack-cloud/vmm';
import type { Context } from '../../context.ts';
import { CliError } from '../../errors.ts';
import { printAgentJournal, printAgentLog } from '../agent-log.ts';
import type { LogRequest } from '../platform.ts';

/** Prints the log of one container of a virtual machine, which its agent shows when the application makes logs public. */
export async function containerLogs(
  context: Context,
  machine: CvmStatus,
  request: LogRequest & { readonly container: string },
): Promise<void> {
  const { agent, runDir } = runningGuest(machine, 'containers end');
  const container = await containerName(runDir, request.container);
  await printAgentLog(context, agent, container, request);
}

/** Prints the journal of a virtual machine, by the same rule. */
export async function journalOfGuest(
  context: Context,
  machine: CvmStatus,
  request: LogRequest,
): Promise<void> {
  await printAgentJournal(context, runningGuest(machine, 'its journal ends').agent, request);
}

function runningGuest(machine: CvmStatus, ends: string): { agent: string; runDir: string } {
  const { run_dir: runDir, status, urls } = machine.state;
  const agent = urls['agent'];
  if (status === 'running' && agent !== undefined && runDir !== null) return { agent, runDir };
  throw new CliError('not_deployed', `${machine.name} is not running, and ${ends} with it`, {
    hint: 'dstack-cloud start; the console of the last run: dstack-cloud logs',
  });
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
