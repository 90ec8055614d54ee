import { build } from 'esbuild';
import { BUNDLE_OPTIONS } from './bundle-programs.ts';

/** One program as a single file, such as a test runs it in a machine that has no checkout. */
export async function bundleText(repository: string, source: string): Promise<string> {
  const { outputFiles } = await build({
    ...BUNDLE_OPTIONS,
    absWorkingDir: repository,
    entryPoints: [source],
    write: false,
  });
  return outputFiles[0]!.text;
}
