import { closeUpdate, startCvm, stopCvm } from '@dstack-cloud/vmm';
import { CliError, messageOf } from '../../errors.ts';
import { type ProjectState, writeProjectState } from '../../project/state-file.ts';
import { explainBoot } from '../explain-boot.ts';
import type { Place } from '../platform.ts';
import { machineIfThere } from './paths.ts';

/** Makes the machine what it was before, and starts it if it ran. Returns the error to throw. */
export async function goBack(
  place: Place,
  before: ProjectState,
  dir: string,
  wasRunning: boolean,
  cause: unknown,
): Promise<Error> {
  const { context, project } = place;
  context.info('The update failed: going back to what was before');
  const why = explainBoot(cause, before, 'deploy');
  const write = (status: string, urls: ProjectState['urls']): Promise<void> =>
    writeProjectState(project.directory, { ...before, status, urls });
  try {
    await stopCvm(dir);
    await closeUpdate(dir, 'undo');
    // Without the signal: a Ctrl-C ended the update, and what ran before is to run again.
    const onProgress = (text: string): void => context.info(`  ${text}`);
    const started = wasRunning ? await startCvm(dir, { onProgress }) : undefined;
    await write(wasRunning ? 'RUNNING' : 'STOPPED', started?.state.urls ?? {});
    const how = wasRunning ? 'running' : 'stopped';
    context.info(`${before.instance_name} is ${how} as before, at compose hash ${before.compose_hash}`);
    return why;
  } catch (error) {
    const status = (await machineIfThere(dir).catch(() => undefined))?.state.status ?? 'failed';
    await write(status.toUpperCase(), {}).catch(() => undefined);
    const again = `What ran before could not be started again: ${messageOf(error)}`;
    return new CliError('boot_failed', `${why.message}. ${again}`, {
      cause,
      hint: 'Read the console with dstack-cloud logs, then dstack-cloud start or deploy',
    });
  }
}
