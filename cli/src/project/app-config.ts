import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import { parseJsonObject } from '../config/json-comments.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { type AppConfig, parseAppConfig } from './app-schema.ts';

const MAX_APP_JSON_BYTES = 1024 * 1024;

/** A project: its folder and its `app.json`. */
export interface Project {
  readonly directory: string;
  readonly path: string;
  readonly config: AppConfig;
}

/** The nearest folder at or above `start` that holds an `app.json`. */
export function findProject(start: string): string | undefined {
  let directory = resolve(start);
  for (;;) {
    if (existsSync(join(directory, 'app.json'))) return directory;
    const parent = dirname(directory);
    if (parent === directory) return undefined;
    directory = parent;
  }
}

/** Loads the project of the context's directory. Throws `no_project`, `bad_app_json`. */
export async function loadProject(context: Context): Promise<Project> {
  const directory = findProject(context.directory);
  if (directory === undefined)
    throw new CliError('no_project', `No app.json in ${context.directory} or above`, {
      hint: 'Make a project with dstack-cloud new NAME, or name its folder with -C DIR',
      exitCode: context.exitCode ? EXIT.notFound : EXIT.failure,
    });
  const path = join(directory, 'app.json');
  const text = new TextDecoder().decode(await readFileBounded(path, MAX_APP_JSON_BYTES));
  const { config, warnings } = parseAppConfig(parseJsonObject(text, path, 'bad_app_json'), path);
  for (const warning of warnings) context.warn(warning);
  return { directory, path, config };
}

/** Changes one text member of `app.json`; comments, order and unknown keys stay. */
export async function setAppJsonText(path: string, key: string, value: string): Promise<void> {
  const text = await readFile(path, 'utf8');
  const member = new RegExp(`("${key}"\\s*:\\s*)"[^"\\\\]*"`);
  const changed = member.test(text)
    ? text.replace(member, (_, before: string) => before + JSON.stringify(value))
    : text.replace(/\{/, `{\n  ${JSON.stringify(key)}: ${JSON.stringify(value)},`);
  await writeFileAtomic(path, changed, { mode: 0o644 });
}
