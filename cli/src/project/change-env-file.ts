import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { writeFileAtomic } from '@dstack-cloud/app';
import type { Project } from './app-config.ts';

/** Sets or removes one variable; every other line, comments too, stays as it is. True when the file changed. */
export async function changeEnvFile(
  project: Project,
  name: string,
  value: string | undefined,
): Promise<boolean> {
  const path = resolve(project.directory, project.config.env_file || '.env');
  const before = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  const lines = before.split('\n');
  const isIt = (line: string): boolean => {
    const equals = line.indexOf('=');
    return equals > 0 && !line.trim().startsWith('#') && line.slice(0, equals).trim() === name;
  };
  const kept = lines.filter((line) => !isIt(line));
  if (value === undefined && kept.length === lines.length) return false;
  while (kept.at(-1) === '') kept.pop();
  if (value !== undefined) kept.push(`${name}=${value}`);
  await writeFileAtomic(path, kept.length === 0 ? '' : `${kept.join('\n')}\n`, { mode: 0o600 });
  return true;
}
