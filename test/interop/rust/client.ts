import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Client, Unavailable } from '../client.ts';
import { readCargo } from '../outcome.ts';
import { lastWords, runTool } from '../run-tool.ts';

const here = dirname(fileURLToPath(import.meta.url));
/** Some two hundred crates are compiled the first time. */
const BUILD_MS = 1_800_000;
const RUN_MS = 120_000;
/** Older versions need a release of alloy that does not compile with the serde of today. */
const NEWEST = '0.1.3';

/** The crate `dstack-sdk`. */
export const rust: Client = {
  versions: [NEWEST],
  async install(version, cache) {
    const directory = join(cache, 'rust', version);
    await mkdir(directory, { recursive: true });
    for (const part of ['src', 'tests'])
      await cp(join(here, part), join(directory, part), { recursive: true });
    const manifest = await readFile(join(here, 'Cargo.toml'), 'utf8');
    await writeFile(join(directory, 'Cargo.toml'), manifest.replaceAll(`"=${NEWEST}"`, `"=${version}"`));
    const env = { CARGO_TARGET_DIR: join(cache, 'rust/target') };
    const test = ['cargo', 'test', '--quiet', ...(version === NEWEST ? ['--features', 'algorithms'] : [])];
    const built = await runTool([...test, '--no-run'], { cwd: directory, env, timeoutMs: BUILD_MS });
    if (built.code === null) throw new Unavailable('cargo is not installed');
    const isMissing = /failed to (get|download|query)|no matching package|Could not resolve/.test(
      built.stderr,
    );
    if (built.code !== 0 && isMissing) throw new Unavailable(`cargo: ${lastWords(built)}`);
    return {
      async run(endpoints) {
        if (built.code !== 0) return [{ name: `compile: ${lastWords(built)}`, state: 'failed' }];
        const loud = test.filter((word) => word !== '--quiet');
        const result = await runTool(loud, {
          cwd: directory,
          env: { ...env, ...endpoints },
          timeoutMs: RUN_MS,
        });
        return readCargo(result.stdout);
      },
    };
  },
};
