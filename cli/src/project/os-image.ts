import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';
import { readFileBounded } from '@dstack-cloud/app';
import type { GlobalConfig } from '../config/global-config.ts';
import { type Context, expandHome } from '../context.ts';
import { CliError } from '../errors.ts';
import type { Project } from './app-config.ts';

/** Names of images that exist only in the simulator. */
export const SIMULATED_IMAGE: RegExp = /^dstack-sim-/;

/**
 * The OS image hash of a project, 64 hex digits: `digest.txt` or `auth_hash.txt` of the image's folder in the search
 * paths (chapter 50 section 2.6). A simulated image has no files: its hash is made of its name.
 */
export async function osImageHash(context: Context, config: GlobalConfig, project: Project): Promise<string> {
  const name = project.config.os_image;
  if (project.config.platform === 'local' && SIMULATED_IMAGE.test(name))
    return createHash('sha256').update(`dstack simulated OS image:${name}`).digest('hex');
  const files =
    project.config.platform === 'gcp' ? ['auth_hash.txt', 'digest.txt'] : ['digest.txt', 'auth_hash.txt'];
  for (const search of config.image_search_paths) {
    for (const file of files) {
      const path = join(resolve(project.directory, expandHome(context, search)), name, file);
      const text = await readFileBounded(path, 1024).then(
        (bytes) => new TextDecoder().decode(bytes).trim().toLowerCase(),
        () => undefined,
      );
      if (text !== undefined && /^[0-9a-f]{64}$/.test(text)) return text;
    }
  }
  throw new CliError('file_missing', `OS image ${name} has no measured hash`, {
    expected: `${files.join(' or ')} in a folder ${name} of image_search_paths`,
    found: config.image_search_paths.length === 0 ? 'no image_search_paths' : 'no such file',
    hint:
      project.config.platform === 'local'
        ? 'Use a simulated image (os_image dstack-sim-0.6.0), or correct image_search_paths'
        : 'Correct image_search_paths with dstack-cloud config-edit',
  });
}
