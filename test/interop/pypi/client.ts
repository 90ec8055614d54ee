import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isThere } from '@dstack-cloud/files';
import { type Client, Unavailable } from '../client.ts';
import { readTap } from '../outcome.ts';
import { lastWords, runTool } from '../run-tool.ts';

const here = dirname(fileURLToPath(import.meta.url));
const INSTALL_MS = 600_000;
const RUN_MS = 180_000;

/** PyPI `dstack-sdk`. Until 0.2 it has the clients of tappd.sock alone. */
export const pypi: Client = {
  versions: ['0.5.4', '0.5.3', '0.5.0', '0.2.1', '0.1.8'],
  async install(version, cache) {
    const directory = join(cache, 'pypi', version);
    const python = join(directory, 'bin/python');
    const installed = join(directory, 'installed');
    if (!isThere(installed)) {
      await mkdir(directory, { recursive: true });
      const made = await runTool(['python3', '-m', 'venv', directory], { timeoutMs: INSTALL_MS });
      if (made.code !== 0) throw new Unavailable(`python3 -m venv: ${lastWords(made)}`);
      const packages = [`dstack-sdk[all]==${version}`, 'cryptography'];
      const install = [python, '-m', 'pip', 'install', '--quiet', ...packages];
      const result = await runTool(install, { timeoutMs: INSTALL_MS });
      if (result.code !== 0) throw new Unavailable(`pip install: ${lastWords(result)}`);
      await writeFile(installed, '');
    }
    return {
      async run(env) {
        const command = [python, '-B', join(here, 'sdk_cases.py')];
        const result = await runTool(command, { cwd: directory, env, timeoutMs: RUN_MS });
        const outcomes = readTap(result.stdout);
        // The file did not load: no test, and nothing that could have passed.
        if (outcomes.length === 0) return [{ name: lastWords(result), state: 'failed' }];
        return outcomes;
      },
    };
  },
};
