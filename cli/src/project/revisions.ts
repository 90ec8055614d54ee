import { lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { HOST_SHARED_LIMITS, type HostSharedName, readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import { isThere } from '@dstack-cloud/files';
import { CliError } from '../errors.ts';
import type { Project } from './app-config.ts';
import type { Prepared } from './shared-files.ts';
import type { ProjectState } from './state-file.ts';

/** What of a deployed revision `rollback` needs; the rest is the project's of now. */
const KEPT = ['app-compose.json', '.sys-config.json', '.encrypted-env'] as const;
const FOLDER = '.dstack/revisions';
const MAX_KEPT = 20;
const ID = /^[0-9a-f]{64}-[0-9a-f]{64}$/;

type Revision = ProjectState['revisions'][number];

/** Keeps the files of a revision that was deployed; of old ones the oldest go. */
export async function keepRevision({ directory, config }: Project, prepared: Prepared): Promise<void> {
  const folder = await revisionFolder(directory, idOf(prepared.composeHash, prepared.osImageHash), true);
  for (const name of KEPT) {
    const bytes = prepared.files[name];
    if (bytes === undefined) await rm(join(folder, name), { force: true });
    else await writeFileAtomic(join(folder, name), bytes);
  }
  await writeFileAtomic(join(folder, 'os_image'), config.os_image);
  await removeOld(join(directory, FOLDER), folder);
}

/**
 * The `count`th revision before the one that is deployed, each counted once.
 * @throws CliError `file_missing`: there is none, or its files are not kept
 */
export async function readRevision(
  { directory }: Project,
  { revisions, compose_hash, os_image_hash }: ProjectState,
  count: number,
): Promise<{ revision: Revision; osImage: string; files: Prepared['files'] }> {
  const now = idOf(compose_hash, os_image_hash);
  const seen = new Set([now]);
  const earlier = [...revisions].reverse().filter((one) => {
    const id = idOf(one.compose_hash, one.os_image_hash);
    return seen.has(id) ? false : seen.add(id);
  });
  const revision = earlier[count - 1];
  if (revision === undefined)
    throw new CliError('file_missing', `There is no revision ${count} before the one that is deployed`, {
      found: earlier.length === 0 ? 'none' : `${earlier.length}`,
    });
  const id = idOf(revision.compose_hash, revision.os_image_hash);
  const folder = ID.test(id) ? await revisionFolder(directory, id, false) : undefined;
  if (folder === undefined || !isThere(join(folder, 'os_image')))
    throw new CliError('file_missing', `The files of compose hash ${revision.compose_hash} are not kept`, {
      expected: `${FOLDER}/${id} in the project`,
      hint: 'Put the compose file back as it was then, and run dstack-cloud deploy',
    });
  const files: Partial<Record<HostSharedName, Uint8Array>> = {};
  for (const name of KEPT) {
    if (!isThere(join(folder, name))) continue;
    files[name] = await readFileBounded(join(folder, name), HOST_SHARED_LIMITS[name], { noFollow: true });
  }
  const osImage = await readFileBounded(join(folder, 'os_image'), 1024, { noFollow: true });
  return { revision, osImage: new TextDecoder().decode(osImage), files };
}

function idOf(composeHash: string, osImageHash: string): string {
  return `${composeHash}-${osImageHash}`;
}

/** A folder of the project's own, at no end of a link. */
async function revisionFolder(directory: string, id: string, makes: boolean): Promise<string> {
  let path = directory;
  for (const part of [...FOLDER.split('/'), id]) {
    path = join(path, part);
    if (makes)
      await mkdir(path, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST') throw error;
      });
    else if (!isThere(path)) return path;
    if (!(await lstat(path)).isDirectory())
      throw new CliError('exists', `${path} is no folder`, {
        expected: 'a folder, not a link to one',
        hint: `Remove ${path}; it is made again`,
      });
  }
  return path;
}

async function removeOld(folder: string, current: string): Promise<void> {
  const names = (await readdir(folder)).filter((name) => ID.test(name));
  const dated = await Promise.all(
    names.map(async (name) => ({
      name,
      time: (await lstat(join(folder, name, 'os_image')).catch(() => undefined))?.mtimeMs ?? 0,
    })),
  );
  const old = dated.sort((a, b) => b.time - a.time).slice(MAX_KEPT);
  for (const { name } of old)
    if (join(folder, name) !== current) await rm(join(folder, name), { recursive: true });
}
