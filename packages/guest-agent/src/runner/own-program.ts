import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Programs of this product that may run as an application, and where their source lies in a checkout. */
const SOURCES = new Map([
  ['dstack-kms', 'kms/src/main.ts'],
  ['dstack-verifier', 'packages/verifier/src/main.ts'],
]);

/**
 * For services of one process with a core to itself, whose requests are short:
 *
 * - garbage is collected by the thread that makes it, and one other thread compiles: V8's four, on the same core, would
 *   hold up requests for longer than they save;
 * - nothing is collected because the process is idle: what runs for the first time after that stays a fifth slower;
 * - a young generation of 8 MiB instead of 16, and a heap of at most 512 MiB, which makes V8 collect garbage before it
 *   doubles the heap.
 */
const NODE_FLAGS = [
  '--single-threaded-gc',
  '--v8-pool-size=1',
  '--no-memory-reducer',
  '--max-semi-space-size=8',
  '--max-old-space-size=512',
];

/**
 * Argument vector for one of our own programs named in a compose file: the bundle in DSTACK_BIN_DIR or beside this one,
 * else the source when this program itself runs from source. Undefined for every other program.
 */
export function ownProgram(
  name: string,
  env: Readonly<Record<string, string | undefined>>,
): string[] | undefined {
  const source = SOURCES.get(name);
  if (source === undefined) return undefined;
  const here = dirname(fileURLToPath(import.meta.url));
  for (const directory of [env['DSTACK_BIN_DIR'], here, dirname(here)]) {
    const bundle = directory ? join(directory, `${name}.js`) : '';
    if (bundle !== '' && existsSync(bundle)) return [process.execPath, ...NODE_FLAGS, bundle];
  }
  const main = join(here, '../../../..', source);
  if (!existsSync(main)) return undefined;
  return [process.execPath, '--import', import.meta.resolve('tsx'), '-C', '@dstack/source', main];
}
