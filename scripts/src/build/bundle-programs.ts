import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { build, type BuildOptions as EsbuildOptions, type OutputFile } from 'esbuild';
import { isUpToDate, writeStamp } from './build-stamp.ts';

/** Old chunks stay this long: a program that is still running may load one lazily. */
const KEEP_CHUNKS_MS = 24 * 3_600_000;

/** CommonJS dependencies call `require` at run time, which an ES module does not have. */
const BANNER = "import{createRequire as __r}from'node:module';const require=__r(import.meta.url);";

/** How every program is bundled. */
export const BUNDLE_OPTIONS: EsbuildOptions = {
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  conditions: ['@dstack/source', 'module'],
  mainFields: ['module', 'main'],
  banner: { js: BANNER },
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'none',
  logLevel: 'silent',
  external: ['koffi', 'secp256k1', 'bufferutil', 'utf-8-validate'],
};

interface BundleOptions {
  readonly repository: string;
  readonly outDirectory: string;
  readonly force: boolean;
  /** Chunks of earlier builds, which a running program may still load, go after a day; or at once. */
  readonly keepOldChunks: boolean;
  /** Source of each program by its name, relative to the checkout. */
  readonly sources: Readonly<Record<string, string>>;
  /** Makes what else belongs in the folder, which is up to date only after that. */
  readonly finish?: (inputs: readonly string[]) => Promise<void>;
}

/**
 * Bundles every program whose source exists into `<out>/<name>.js`, with an executable link `<out>/<name>`.
 * Files are replaced by rename, chunks first, so that a program started meanwhile sees old or new, never half.
 *
 * `finish` is given the source files, relative to the checkout.
 */
export async function bundlePrograms(
  options: BundleOptions,
): Promise<{ programs: string[]; fresh: boolean }> {
  const entries = Object.entries(options.sources).filter(([, source]) =>
    existsSync(join(options.repository, source)),
  );
  const programs = entries.map(([name]) => name);
  if (!options.force && (await isUpToDate(options.repository, options.outDirectory, programs)))
    return { programs, fresh: true };

  const result = await build({
    absWorkingDir: options.repository,
    entryPoints: Object.fromEntries(entries),
    outdir: options.outDirectory,
    ...BUNDLE_OPTIONS,
    write: false,
    splitting: true,
    chunkNames: 'chunks/[name]-[hash]',
    metafile: true,
  });
  await mkdir(join(options.outDirectory, 'chunks'), { recursive: true });
  const isEntry = (file: OutputFile): boolean => !file.path.includes('/chunks/');
  for (const file of result.outputFiles.filter((file) => !isEntry(file))) await replace(file.path, file.text);
  for (const file of result.outputFiles.filter(isEntry)) await writeEntry(file);
  const current = new Set(result.outputFiles.map((file) => basename(file.path)));
  await removeOldChunks(options.outDirectory, current, options.keepOldChunks ? KEEP_CHUNKS_MS : 0);
  await removeOldPrograms(options.outDirectory, new Set(programs));
  const inputs = Object.keys(result.metafile.inputs);
  await options.finish?.(inputs);
  await writeStamp(options.repository, options.outDirectory, programs, inputs);
  return { programs, fresh: false };
}

async function writeEntry(file: OutputFile): Promise<void> {
  const text = file.text.startsWith('#!') ? file.text : `#!/usr/bin/env node\n${file.text}`;
  await replace(file.path, text);
  await chmod(file.path, 0o755);
  const link = file.path.slice(0, -'.js'.length);
  await symlink(basename(file.path), link).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
}

async function replace(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, text);
  await rename(temporary, path);
}

/** Programs of an earlier build that are none any more; an image would have them too. */
async function removeOldPrograms(outDirectory: string, current: ReadonlySet<string>): Promise<void> {
  for (const entry of await readdir(outDirectory, { withFileTypes: true })) {
    const isProgram = entry.isSymbolicLink() || (entry.isFile() && /^[^.].*\.js$/.test(entry.name));
    if (isProgram && !current.has(entry.name.replace(/\.js$/, '')))
      await rm(join(outDirectory, entry.name), { force: true });
  }
}

async function removeOldChunks(
  outDirectory: string,
  current: ReadonlySet<string>,
  keepMs: number,
): Promise<void> {
  const directory = join(outDirectory, 'chunks');
  for (const name of await readdir(directory)) {
    if (current.has(name)) continue;
    const path = join(directory, name);
    if (Date.now() - (await stat(path)).mtimeMs >= keepMs) await rm(path, { force: true });
  }
}
