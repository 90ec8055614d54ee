import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Client, Unavailable } from '../client.ts';
import { readGo } from '../outcome.ts';
import { lastWords, runTool } from '../run-tool.ts';

const here = dirname(fileURLToPath(import.meta.url));
const MODULE = 'github.com/Dstack-TEE/dstack/sdk/go';
const RUN_MS = 600_000;

/** The Go module, whose versions are commits: the newest that the proxy serves, if it serves any. */
export const go: Client = {
  versions: ['latest'],
  async install(version, cache) {
    const directory = join(cache, 'go', version);
    await mkdir(directory, { recursive: true });
    await copyFile(join(here, 'sdk_cases_test.go'), join(directory, 'sdk_cases_test.go'));
    await writeFile(join(directory, 'go.mod'), 'module interop\n\ngo 1.23\n');
    const got = await runTool(['go', 'get', '-t', `${MODULE}@${version}`], {
      cwd: directory,
      timeoutMs: RUN_MS,
    });
    if (got.code === null) throw new Unavailable('go is not installed');
    if (got.code !== 0) throw new Unavailable(`the module proxy does not serve ${MODULE}: ${lastWords(got)}`);
    await runTool(['go', 'mod', 'tidy'], { cwd: directory, timeoutMs: RUN_MS });
    return {
      async run(env) {
        const result = await runTool(['go', 'test', '-v', './...'], {
          cwd: directory,
          env,
          timeoutMs: RUN_MS,
        });
        return readGo(result.stdout);
      },
    };
  },
};
