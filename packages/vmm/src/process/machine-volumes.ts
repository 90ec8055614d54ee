import { VmmError } from '../errors.ts';
import type { CvmManifest } from '../manifest/manifest.ts';
import { composeProject, engineCommand, enginesOf } from './engine-command.ts';

const PROJECT_LABEL = 'com.docker.compose.project';
/** Names that Docker gives volumes. */
const VOLUME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$/;

/**
 * Removes what an engine keeps for a machine beyond its run: volumes, and networks that are left. An engine that this
 * machine certainly used and that does not answer is an error: its data would stay unseen.
 *
 * @throws VmmError `engine_down`; nothing was removed from that engine then
 */
export async function removeMachineVolumes(manifest: CvmManifest): Promise<void> {
  if (manifest.driver !== 'process') return;
  const { runner } = manifest;
  const label = `label=${PROJECT_LABEL}=${composeProject(manifest.id)}`;
  for (const program of enginesOf(runner)) {
    const run = (...args: string[]) => engineCommand(runner, program, args);
    const volumes = await run('volume', 'ls', '--quiet', '--filter', label);
    if (volumes === undefined) {
      if (runner.engine === 'auto') continue;
      throw new VmmError(
        'engine_down',
        `${program} does not answer: the volumes of ${manifest.name} cannot be removed (--force leaves them there)`,
        { expected: `${program} as it was at the deployment`, found: 'no answer' },
      );
    }
    const names = volumes.filter((name) => VOLUME.test(name));
    if (names.length > 0 && (await run('volume', 'rm', ...names)) === undefined)
      throw new VmmError('engine_down', `${program} refuses to remove the volumes ${names.join(', ')}`);
    const networks = (await run('network', 'ls', '--quiet', '--filter', label)) ?? [];
    if (networks.length > 0) await run('network', 'rm', ...networks);
  }
}
