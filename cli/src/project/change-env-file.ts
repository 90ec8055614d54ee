import { formatDotEnvValue } from '@dstack-cloud/app';
import { CliError } from '../errors.ts';
import type { Project } from './app-config.ts';
import { type EnvEntry, parseDotEnv } from './dotenv.ts';
import { checkVariables, type EnvFile, envPath, loadEnvFile } from './env-file.ts';
import { replaceFile } from './replace-file.ts';

/**
 * Sets or removes one variable; every other byte of the file stays as it is. What was written is read back before it
 * replaces the file. True when the file changed. Throws `bad_env` for a file or a value that cannot be used.
 */
export async function changeEnvFile(
  project: Project,
  name: string,
  value: string | undefined,
): Promise<boolean> {
  const file = await loadEnvFile(project);
  const path = file?.path ?? (await envPath(project));
  const text = value === undefined ? without(file, name) : withValue(file, name, value);
  if (text === undefined || text === file?.text) return false;
  const after = parseDotEnv(text, path).vars;
  checkVariables(after, path);
  if (after.find(({ key }) => key === name)?.value !== value)
    throw new CliError('bad_env', `The value of ${name} cannot be written to ${path}`, {
      expected: 'text without NUL characters',
      hint: 'Encode it, for example with base64',
    });
  await replaceFile(path, text, 0o600);
  return true;
}

/** The last of equal names is the one that counts. */
function withValue(file: EnvFile | undefined, name: string, value: string): string {
  const text = file?.text ?? '';
  const formatted = formatDotEnvValue(value);
  const entry = file?.entries.findLast(({ key }) => key === name);
  if (entry !== undefined) return text.slice(0, entry.valueStart) + formatted + text.slice(entry.valueEnd);
  const newline = text.includes('\r\n') ? '\r\n' : '\n';
  const ended = text === '' || text === '\ufeff' || text.endsWith('\n');
  return `${text}${ended ? '' : newline}${name}=${formatted}${newline}`;
}

/** Without every line that sets the name: an earlier one would count again. */
function without(file: EnvFile | undefined, name: string): string | undefined {
  if (file === undefined) return undefined;
  const { text } = file;
  const first = text.startsWith('\ufeff') ? 1 : 0;
  const lines = (entry: EnvEntry): [number, number] => {
    const end = text.indexOf('\n', entry.valueEnd);
    return [Math.max(first, text.lastIndexOf('\n', entry.start - 1) + 1), end < 0 ? text.length : end + 1];
  };
  let kept = '';
  let at = 0;
  for (const entry of file.entries.filter(({ key }) => key === name)) {
    const [start, end] = lines(entry);
    kept += text.slice(at, start);
    at = end;
  }
  return kept + text.slice(at);
}
