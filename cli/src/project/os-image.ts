import { join, resolve } from 'node:path';
import { AppError, readFileBounded } from '@dstack-cloud/app';
import { vmImage } from '@dstack-cloud/vmm';
import type { GlobalConfig } from '../config/global-config.ts';
import { type Context, expandHome } from '../context.ts';
import { CliError } from '../errors.ts';
import { findImage } from '../image/find-image.ts';
import type { Project } from './app-config.ts';
import { localDriver } from './local-driver.ts';
import { SIMULATED_IMAGE, simulatedImage } from './simulated-image.ts';

/** The OS image of a project as the machine's host describes it. */
export interface OsImage {
  /** 64 hex digits. */
  readonly hash: string;
  /** JSON text for `.sys-config.json`; a verifier recomputes everything that it says. */
  readonly vmConfig: string;
}

/**
 * The measured OS image of a project: `digest.txt` or `auth_hash.txt` of the image's folder in the search paths. A
 * simulated image has no files; the simulator computes its measurements from its name. Of a local virtual machine's image
 * the files are hashed.
 */
export async function osImage(context: Context, config: GlobalConfig, project: Project): Promise<OsImage> {
  const { os_image: name, platform } = project.config;
  if (platform === 'local' && localDriver(config, project) === 'vm') return await folderImage(context, name);
  if (platform === 'local' && SIMULATED_IMAGE.test(name)) return await simulatedImage(name);
  const files = platform === 'gcp' ? ['auth_hash.txt', 'digest.txt'] : ['digest.txt', 'auth_hash.txt'];
  for (const search of config.image_search_paths) {
    for (const file of files) {
      const path = join(resolve(project.directory, expandHome(context, search)), name, file);
      const hash = await readHash(path);
      if (hash !== undefined)
        return { hash, vmConfig: JSON.stringify({ spec_version: 2, os_image_hash: hash }) };
    }
  }
  throw new CliError('file_missing', `OS image ${name} has no measured hash`, {
    expected: `${files.join(' or ')} in a folder ${name} of image_search_paths`,
    found: config.image_search_paths.length === 0 ? 'no image_search_paths' : 'no such file',
    hint:
      platform === 'local'
        ? 'Use a simulated image (os_image dstack-sim-0.6.0), or correct image_search_paths'
        : `Get it with dstack-cloud pull ${name}, or correct image_search_paths with dstack-cloud config-edit`,
  });
}

/** Of the image's own files, each compared with its list: what a machine that boots them measures. */
async function folderImage(context: Context, name: string): Promise<OsImage> {
  if (SIMULATED_IMAGE.test(name))
    throw new CliError('file_missing', `A virtual machine boots no simulated image: ${name} has no files`, {
      expected: 'os_image with the name of an image folder',
      found: name,
      hint: 'Build one with dstack-cloud image build --dev, and set os_image to its name (dstack-cloud image list)',
    });
  const { folder } = await findImage(context, name);
  const { digest } = await vmImage(folder, 'direct');
  // The driver adds what the machine's hardware is.
  return { hash: digest, vmConfig: JSON.stringify({ spec_version: 1, os_image_hash: digest }) };
}

/** The hash in a file; undefined only when there is no file: an image must not be taken from elsewhere because of damage. */
async function readHash(path: string): Promise<string | undefined> {
  let hash: string;
  try {
    hash = new TextDecoder()
      .decode(await readFileBounded(path, 1024))
      .trim()
      .toLowerCase();
  } catch (cause) {
    if (cause instanceof AppError && cause.code === 'file-missing') return undefined;
    throw new CliError('file_missing', `${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  if (/^[0-9a-f]{64}$/.test(hash)) return hash;
  throw new CliError('file_missing', `${path} holds no image hash`, {
    expected: '64 hex digits',
    found: JSON.stringify(hash.slice(0, 80)),
  });
}
