import { lstat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { readFileBounded } from '@dstack-cloud/app';
import { parseJsonObject, withJsonMember } from '../config/json-comments.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { type AppConfig, parseAppConfig } from './app-schema.ts';
import { replaceFile } from './replace-file.ts';

const MAX_APP_JSON_BYTES = 1024 * 1024;

/** A project: its folder and its `app.json`. */
export interface Project {
  readonly directory: string;
  readonly path: string;
  readonly config: AppConfig;
  /** Why `app.json` cannot be used; `config` then has the defaults, which say nothing about the project. */
  readonly problem?: CliError;
}

/** The nearest folder at or above `start` that holds an `app.json`. Throws `bad_app_json` when that cannot be told. */
export async function findProject(start: string): Promise<string | undefined> {
  let directory = resolve(start);
  for (;;) {
    if (await exists(join(directory, 'app.json'), directory === resolve(start))) return directory;
    const parent = dirname(directory);
    if (parent === directory) return undefined;
    directory = parent;
  }
}

/** The folder of the context's project. Throws `no_project`. */
async function requireProjectFolder(context: Context): Promise<string> {
  const directory = await findProject(context.directory);
  if (directory !== undefined) return directory;
  throw new CliError('no_project', `No app.json in ${context.directory} or above`, {
    hint: 'Make a project with dstack-cloud new NAME, or name its folder with -C DIR',
    exitCode: context.exitCode ? EXIT.notFound : EXIT.failure,
  });
}

/** Loads the project of the context's directory. Throws `no_project`, `bad_app_json`. */
export async function loadProject(context: Context): Promise<Project> {
  const directory = await requireProjectFolder(context);
  const path = join(directory, 'app.json');
  const text = await readAppJson(path);
  const { config, warnings } = parseAppConfig(parseJsonObject(text, path, 'bad_app_json'), path);
  for (const warning of warnings) context.warn(warning);
  return { directory, path, config };
}

/**
 * Loads the project for a command that only tends its machine: a damaged `app.json` must not keep anybody from stopping
 * it. Throws `no_project`.
 */
export async function loadProjectToTend(context: Context): Promise<Project> {
  try {
    return await loadProject(context);
  } catch (problem) {
    if (!(problem instanceof CliError) || problem.code === 'no_project') throw problem;
    const directory = await requireProjectFolder(context);
    const { config } = parseAppConfig({ platform: 'local' }, 'app.json');
    return { directory, path: join(directory, 'app.json'), config, problem };
  }
}

/** A change of `app.json` that was tried out: nothing but the disk can keep it from being written. */
export interface AppJsonChange {
  write(appId: string): Promise<void>;
  /** Puts back the text of before. */
  undo(): Promise<void>;
}

/**
 * Readies a change of `app_id`; comments, order, unknown members, link and mode stay. Reading, editing and writing are
 * tried here, before a transaction that cannot be undone. Throws `bad_app_json`.
 */
export async function changeAppId(path: string): Promise<AppJsonChange> {
  const before = await readAppJson(path);
  const { app_id: _, ...kept } = parseJsonObject(before, path, 'bad_app_json');
  const edited = (appId: string): string => {
    const text = withJsonMember(before, 'app_id', appId);
    const { app_id, ...others } = parseJsonObject(text, path, 'bad_app_json');
    if (app_id === appId && JSON.stringify(others) === JSON.stringify(kept)) return text;
    throw new CliError('bad_app_json', `${path} cannot be edited`, {
      hint: `Set "app_id" in ${path} yourself`,
    });
  };
  edited('0'.repeat(40));
  const write = async (text: string): Promise<void> => {
    try {
      await replaceFile(path, text, 0o644);
    } catch (error) {
      throw new CliError('bad_app_json', `${path} cannot be written`, {
        cause: error,
        hint: `Check the space on its disk, and who may write to ${dirname(path)}`,
      });
    }
  };
  await write(before);
  return { write: (appId) => write(edited(appId)), undo: () => write(before) };
}

async function readAppJson(path: string): Promise<string> {
  let bytes: Uint8Array;
  try {
    bytes = await readFileBounded(path, MAX_APP_JSON_BYTES);
  } catch (error) {
    throw new CliError('bad_app_json', `${path} cannot be read`, { cause: error, hint: `Check ${path}` });
  }
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw new CliError('bad_app_json', `${path} is no UTF-8 text`, {
      cause: error,
      hint: `Save ${path} as UTF-8`,
    });
  }
}

async function exists(path: string, isHere: boolean): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // A folder above that may not be looked into holds no project of this user.
    if (code === 'ENOENT' || (code === 'EACCES' && !isHere)) return false;
    throw new CliError('bad_app_json', `${path} cannot be looked at`, {
      cause: error,
      hint: `Check ${dirname(path)}`,
    });
  }
}
