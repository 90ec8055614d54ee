import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isThere } from '@dstack-cloud/files';
import { type Client, Unavailable } from '../client.ts';
import { readTap } from '../outcome.ts';
import { lastWords, runTool } from '../run-tool.ts';

const here = dirname(fileURLToPath(import.meta.url));
const INSTALL_MS = 300_000;
const RUN_MS = 120_000;
/** What the accounts of the SDK are made with; peers that older versions do not pin. */
const PEERS = ['viem@2.57.20', '@solana/web3.js@1.98.4'];

/** npm `@phala/dstack-sdk`. Until 0.2 it has TappdClient alone. */
export const npm: Client = {
  versions: ['0.5.8', '0.5.7', '0.5.5', '0.2.2', '0.1.11'],
  async install(version, cache) {
    const directory = join(cache, 'npm', version);
    const installed = join(directory, 'installed');
    if (!isThere(installed)) {
      await mkdir(directory, { recursive: true });
      await writeFile(join(directory, 'package.json'), '{"private":true}\n');
      const packages = [`@phala/dstack-sdk@${version}`, ...PEERS];
      const install = ['npm', 'install', '--no-audit', '--no-fund', '--ignore-scripts', ...packages];
      const result = await runTool(install, { cwd: directory, timeoutMs: INSTALL_MS });
      if (result.code !== 0) throw new Unavailable(`npm install: ${lastWords(result)}`);
      await writeFile(installed, '');
    }
    const file = join(directory, 'sdk-cases.mjs');
    await copyFile(join(here, 'sdk-cases.mjs'), file);
    return {
      async run(env) {
        const command = [process.execPath, '--test', '--test-reporter=tap', file];
        const { stdout } = await runTool(command, { cwd: directory, env, timeoutMs: RUN_MS });
        return readTap(stdout);
      },
    };
  },
};
