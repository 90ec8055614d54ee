import { OsImageError } from '../errors.ts';
import { IMAGE_PACKAGES, KERNEL, LEFT_OUT, NODE, SUITE, TOOL_PACKAGES } from '../recipe/recipe.ts';
import { runCommand } from '../tools/run-command.ts';
import { type AptFile, AptRoot, type Mirror } from './apt-root.ts';
import type { ImageLock, LockedPackage } from './image-lock.ts';

/**
 * The newest versions that the mirror serves of all packages of the recipe, with their hashes as the signed lists of
 * the archive name them.
 *
 * @throws OsImageError when a package of the recipe is not served any more
 */
export async function makeLock(aptFolder: string, mirror?: Mirror): Promise<ImageLock> {
  const apt = await AptRoot.open(aptFolder, SUITE, mirror);
  const image = await apt.resolve(IMAGE_PACKAGES);
  const unknown = LEFT_OUT.filter((name) => !image.some((one) => one.name === name));
  if (unknown.length > 0)
    throw new OsImageError('bad-recipe', `The recipe leaves out ${unknown.join(', ')}, which nothing needs`);
  return {
    schema: 1,
    suite: SUITE,
    kernel: KERNEL,
    node: { ...NODE, integrity: await npmIntegrity(`${NODE.name}@${NODE.version}`) },
    image: image.filter(({ name }) => !LEFT_OUT.includes(name)).map(locked),
    tools: (await apt.resolve(TOOL_PACKAGES)).map(locked),
  };
}

function locked({ name, version, size, sha256 }: AptFile): LockedPackage {
  return { name, version, size, sha256 };
}

async function npmIntegrity(spec: string): Promise<string> {
  const text = await runCommand('npm', ['view', '--json', spec, 'dist.integrity']);
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'string')
    throw new OsImageError('package-missing', `The npm registry does not serve ${spec}`);
  return value;
}
