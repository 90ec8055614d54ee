import { join, relative } from 'node:path';
import { build } from 'esbuild';
import { BUNDLE_OPTIONS } from '../build/bundle-programs.ts';
import { bundledPackages } from '../build/bundled-packages.ts';
import type { ReleasePackage } from './packages.ts';

/** What a package runs: files by their path in it, and the npm packages in them. */
export interface Bundle {
  readonly files: ReadonlyMap<string, string>;
  readonly contains: Awaited<ReturnType<typeof bundledPackages>>;
}

/** File of a module of a package, without its ending: `index`, `viem`. */
export function moduleFile(exported: string): string {
  return exported === '.' ? 'index' : exported.slice('./'.length);
}

/** Bundles the programs and modules of a package below `lib`. */
export async function bundle(repository: string, wanted: ReleasePackage): Promise<Bundle> {
  const modules = Object.entries(wanted.modules).map(
    ([exported, { folder, file }]) => [moduleFile(exported), `${folder}/src/${file}.ts`] as const,
  );
  const outdir = join(repository, 'dist/release-lib');
  const { outputFiles, metafile } = await build({
    ...BUNDLE_OPTIONS,
    absWorkingDir: repository,
    entryPoints: { ...wanted.programs, ...Object.fromEntries(modules) },
    external: [
      ...(BUNDLE_OPTIONS.external ?? []),
      ...wanted.peers,
      ...wanted.peers.map((name) => `${name}/*`),
    ],
    outdir,
    write: false,
    splitting: true,
    chunkNames: 'chunks/[name]-[hash]',
    metafile: true,
  });
  const files = new Map(outputFiles.map(({ path, text }) => [`lib/${relative(outdir, path)}`, text]));
  return { files, contains: await bundledPackages(repository, Object.keys(metafile.inputs)) };
}
