import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';

const run = promisify(execFile);
const MAX_OUTPUT = 64 * 1024 * 1024;
const TAIL_LINES = 20;

/**
 * Builds the container image of a folder with Docker, and saves it to a file.
 *
 * @throws CliError `engine_missing`, `boot_failed` with the last lines that Docker printed
 */
export async function buildDockerImage(
  context: Context,
  options: { readonly folder: string; readonly dockerfile: string; readonly output: string },
): Promise<void> {
  const { folder, dockerfile, output } = options;
  const idFile = `${output}.id`;
  await docker(context, ['build', '--file', join(folder, dockerfile), '--iidfile', idFile, folder]);
  const id = (await readFile(idFile, 'utf8')).trim();
  await docker(context, ['save', '--output', output, id]);
}

async function docker(context: Context, args: readonly string[]): Promise<void> {
  context.debug(`docker ${args.join(' ')}`);
  try {
    await run('docker', [...args], {
      env: { ...process.env, ...context.env },
      signal: context.signal,
      maxBuffer: MAX_OUTPUT,
    });
  } catch (cause) {
    const { code, stderr = '', message } = cause as NodeJS.ErrnoException & { stderr?: string };
    if (code === 'ENOENT')
      throw new CliError('engine_missing', 'There is no docker here to build the container image with', {
        cause,
        hint: 'Install Docker, or build the image elsewhere and name its archive (docker save, OCI layout) in nitro_config.image of app.json',
      });
    const last = (stderr.trim() || message).split('\n').slice(-TAIL_LINES).join('\n');
    throw new CliError('refused', `docker ${args[0]} failed:\n${last}`, { cause });
  }
}
