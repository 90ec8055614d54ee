import type { AppCompose } from '@dstack-cloud/app';
import type { GuestConfig } from '../config/guest-config.ts';
import type { NotifyHost } from '../host/host-api.ts';
import { baseEnvironment } from '../script/app-environment.ts';
import { sourceScript } from '../script/source-script.ts';

/**
 * Runs the measured init scripts in their order, after the data disk is ready and before the agent and the application
 * start. They see neither the decrypted environment nor each other's variables.
 *
 * @throws GuestError `init-script-failed`; the boot ends then
 */
export async function runInitScripts(
  compose: AppCompose,
  config: GuestConfig,
  notify: NotifyHost,
): Promise<void> {
  if (compose.initScripts.length === 0) return;
  await notify('boot.progress', 'init-script');
  for (const script of compose.initScripts) {
    await sourceScript({
      member: 'init_script',
      script,
      workDir: config.workDir,
      env: baseEnvironment(process.env),
      onOutput: (bytes) => process.stderr.write(bytes),
    });
  }
}
