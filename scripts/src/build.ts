/**
 * `npm run build [-- --force] [--json]`: one bundle for each program, in `dist/bin`, and the contract artifacts.
 * `npm run build -- --single FILE [--node FILE]`: the programs for enclaves as one executable that needs no Node.
 * Needs nothing but what `npm ci` installed; does nothing when all is up to date.
 */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { surviveClosedOutput } from '@dstack-cloud/files';
import { type BuildResult, buildAll } from './build/build-all.ts';
import { repository } from './build/paths.ts';
import { makeSingleExecutable } from './build/single-executable.ts';

/** Builds what is out of date. Throws with the compiler's or bundler's message. */
export async function build(options: { force?: boolean } = {}): Promise<BuildResult> {
  return await buildAll(options);
}

async function main(): Promise<void> {
  surviveClosedOutput();
  const { values } = parseArgs({
    options: {
      force: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      single: { type: 'string' },
      node: { type: 'string' },
    },
  });
  if (values.single !== undefined) {
    const output = resolve(values.single);
    await makeSingleExecutable({
      repository,
      output,
      ...(values.node !== undefined && { node: values.node }),
    });
    process.stdout.write(`${values.json ? JSON.stringify({ file: output }) : output}\n`);
    return;
  }
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
