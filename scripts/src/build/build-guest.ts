import { cp, mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { bundlePrograms } from './bundle-programs.ts';
import { GUEST_PROGRAMS } from './programs.ts';

/** Files of the packages with native code that a guest on x86-64 loads; all else of them stays out of the image. */
const NATIVE_FILES: readonly string[] = [
  ...['koffi/package.json', 'koffi/index.js', 'koffi/index.cjs', 'koffi/indirect.js', 'koffi/indirect.cjs'],
  ...['koffi/src/koffi', 'koffi/LICENSE.txt'],
  ...['@koromix/koffi-linux-x64/package.json', '@koromix/koffi-linux-x64/index.js'],
  '@koromix/koffi-linux-x64/linux_x64',
  ...['secp256k1/package.json', 'secp256k1/bindings.js', 'secp256k1/lib', 'secp256k1/LICENSE'],
  'secp256k1/prebuilds/linux-x64/secp256k1.glibc.node',
  ...['node-gyp-build/package.json', 'node-gyp-build/index.js', 'node-gyp-build/node-gyp-build.js'],
];

/** Of those folders, what runs; sources of native code stay out. */
const RUN_TIME_FILE = /(\.(c?js|json|node)|LICENSE(\.txt)?)$/;

/** Builds the folder that the OS image takes the guest's programs from. */
export async function buildGuest(options: {
  readonly repository: string;
  readonly outDirectory: string;
  readonly force: boolean;
}): Promise<{ fresh: boolean }> {
  const { repository, outDirectory } = options;
  const { fresh } = await bundlePrograms({ ...options, keepOldChunks: false, sources: GUEST_PROGRAMS });
  if (fresh) return { fresh };
  const modules = join(outDirectory, 'node_modules');
  await rm(modules, { recursive: true, force: true });
  await mkdir(modules, { recursive: true });
  for (const name of NATIVE_FILES)
    await cp(join(repository, 'node_modules', name), join(modules, name), {
      recursive: true,
      filter: async (source) => (await stat(source)).isDirectory() || RUN_TIME_FILE.test(source),
    });
  return { fresh };
}
