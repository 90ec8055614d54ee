/** Programs of the kill tests: bundled once, run as processes that end themselves. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { expect } from 'vitest';

/** The path of the bundled program. @param source file URL of its source */
export async function bundleChild(source: URL, directory: string): Promise<string> {
  const outfile = join(directory, 'child.mjs');
  await build({
    entryPoints: [fileURLToPath(source)],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    conditions: ['@dstack/source'],
    external: ['koffi'],
    banner: { js: "import{createRequire as r}from'node:module';const require=r(import.meta.url);" },
    logLevel: 'silent',
  });
  return outfile;
}

/** What it wrote, or undefined when it ended itself at operation `at`. */
export function runChild(
  child: string,
  directory: string,
  at: number,
  when: 'before' | 'after',
): string | undefined {
  const result = spawnSync(process.execPath, [child, directory, String(at), when], { timeout: 20_000 });
  if (result.signal === 'SIGKILL') return undefined;
  expect(result.stderr.toString()).toBe('');
  return result.stdout.toString();
}
