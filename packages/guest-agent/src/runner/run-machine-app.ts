import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isThere } from '@dstack-cloud/files';
import { errorChain } from '@dstack-cloud/runtime';
import { dockerRoot, leftContainers } from '../boot/disarm-docker.ts';
import { type MachineHost, mustRun } from '../boot/disk/machine-host.ts';
import { imagesDisk } from '../boot/images-disk.ts';
import { dockerReady } from '../boot/start-docker.ts';
import type { GuestConfig } from '../config/guest-config.ts';
import { GuestError } from '../errors.ts';
import type { NotifyHost } from '../host/host-api.ts';
import type { Logger } from '../log.ts';
import { runApp } from './run-app.ts';
import type { RunningApp } from './run-processes.ts';

export interface MachineAppOptions {
  readonly config: GuestConfig;
  readonly host: MachineHost;
  readonly notify: NotifyHost;
  readonly log: Logger;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

/**
 * Runs the application of a machine of its own. An application that does not start is told to the host; the agent goes on
 * to serve, so that somebody can look.
 *
 * @returns undefined when it did not start
 */
export async function runMachineApp(options: MachineAppOptions): Promise<RunningApp | undefined> {
  const { config, host, notify, log, say, signal } = options;
  const marker = join(config.runDir, 'dstack', 'app-started');
  const resume = isThere(marker);
  try {
    if (!resume) await engineReady(options);
    const runner = { ...config.runner, imagesDisk: resume ? undefined : await imagesDisk(host) };
    const machine = { ...config, runner };
    const app = await runApp({ config: machine, notify, say, machineEnv: process.env, signal, resume });
    if (!resume) await writeFile(marker, '', { mode: 0o600 });
    say(`Application runs: ${app.services.join(', ')}`);
    return app;
  } catch (error) {
    if (signal.aborted) return undefined;
    log.error({ error: errorChain(error) }, 'The application does not start');
    await notify('boot.error', `failed to start containers: ${errorChain(error)}`);
    return undefined;
  }

  async function engineReady({ config: { dataDir } }: MachineAppOptions): Promise<void> {
    await dockerReady(host, log, signal);
    // Containers of an earlier boot are made again from the compose file; volumes stay.
    if ((await leftContainers(dockerRoot(dataDir))).length === 0) return;
    await mustRun(host, 'docker', ['container', 'prune', '--force']);
    const running = (await mustRun(host, 'docker', ['ps', '--quiet'])).trim();
    if (running !== '')
      throw new GuestError(
        'disk-failed',
        `Docker started containers of an earlier boot by itself (${running.split('\n', 3).join(', ')}); remove them with their data: deploy with an empty data disk`,
      );
  }
}
