/**
 * `npm run build [-- --force] [--json]`: one bundle for each program, in `dist/bin`, and the contract artifacts.
 * Needs nothing but what `npm ci` installed; does nothing when all is up to date.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { surviveClosedOutput } from '@dstack-cloud/files';
import { type BuildResult, buildAll } from './build/build-all.ts';

/** Builds what is out of date. Throws with the compiler's or bundler's message. */
export async function build(options: { force?: boolean } = {}): Promise<BuildResult> {
  return await buildAll(options);
}

async function main(): Promise<void> {
  surviveClosedOutput();
  const { values } = parseArgs({
    options: { force: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } },
  });
  const result = await build({ force: values.force });
  const how = result.fresh ? 'up to date' : 'built';
  const text = `${result.programs.length} programs in ${result.directory} (${how}), ${result.ms} ms`;
  process.stdout.write(`${values.json ? JSON.stringify(result) : text}\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main().catch((error: unknown) => {
    process.stderr.write(`Build failed: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  });
}
