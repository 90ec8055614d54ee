import { cp, mkdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bundlePrograms } from './bundle-programs.ts';
import { bundledPackages } from './bundled-packages.ts';

/** Files of the packages with native code that programs on x86-64 load; all else of them stays out of images. */
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

/** What an image is told of the npm packages in a folder of programs; the leading dot keeps it out of the image. */
const PACKAGES_FILE = '.packages.json';

/** Builds a folder of programs for an image: bundles, the native modules that they load, and the list of npm packages. */
export async function buildImagePrograms(options: {
  readonly repository: string;
  readonly outDirectory: string;
  readonly force: boolean;
  readonly sources: Readonly<Record<string, string>>;
}): Promise<{ fresh: boolean }> {
  const { repository, outDirectory } = options;
  const finish = async (inputs: readonly string[]): Promise<void> => {
    const modules = join(outDirectory, 'node_modules');
    await rm(modules, { recursive: true, force: true });
    await mkdir(modules, { recursive: true });
    for (const name of NATIVE_FILES)
      await cp(join(repository, 'node_modules', name), join(modules, name), {
        recursive: true,
        filter: async (source) => (await stat(source)).isDirectory() || RUN_TIME_FILE.test(source),
      });
    const files = [...inputs, ...NATIVE_FILES.map((name) => join('node_modules', name))];
    const packages = await bundledPackages(repository, files);
    await writeFile(join(outDirectory, PACKAGES_FILE), `${JSON.stringify(packages, null, 2)}\n`);
  };
  const { fresh } = await bundlePrograms({ ...options, keepOldChunks: false, finish });
  return { fresh };
}
