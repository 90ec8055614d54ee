import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { cp, lstat, mkdir, readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { CliError } from '../errors.ts';
import type { EnclaveKms } from './enclave-inputs.ts';

/** What lies in a project and is of no image: what commands write, and secrets. */
const LEFT_OUT = new Set(['output', 'shared', 'state.json', 'app.json', '.env', '.git', '.user-config']);
/** Folder of the build context with this version's programs for enclaves. */
const PROGRAMS_FOLDER = 'dstack';
const ENTRYPOINT = 'app/entrypoint.sh';
const MAX_FILES = 100_000;
const MAX_ENTRYPOINT = 1024 * 1024;

/**
 * Makes the folder that an image is built from: the project without what is not its application, the programs for
 * enclaves, and `app/entrypoint.sh` with its placeholders filled in.
 *
 * @param programs folder of the programs
 * @returns SHA-256 over all of it, hex
 */
export async function stageContext(
  project: string,
  target: string,
  programs: string,
  kms: EnclaveKms | undefined,
): Promise<string> {
  await mkdir(target, { mode: 0o700 });
  for (const name of await readdir(project))
    if (!LEFT_OUT.has(name) && name !== PROGRAMS_FOLDER)
      await cp(join(project, name), join(target, name), { recursive: true, verbatimSymlinks: true });
  await cp(programs, join(target, PROGRAMS_FOLDER), { recursive: true });
  if (kms !== undefined) await fillEntrypoint(target, kms);
  const hash = createHash('sha256');
  await addFolder(hash, target, target, { left: MAX_FILES });
  return hash.digest('hex');
}

/** Fills in `__KMS_URL__` and `__APP_ID__`. @throws CliError `bad_app_json` */
async function fillEntrypoint(target: string, { kmsUrl, appId }: EnclaveKms): Promise<void> {
  const path = join(target, ENTRYPOINT);
  const status = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  // An image may start its application in another way.
  if (status === undefined) return;
  if (!status.isFile() || status.size > MAX_ENTRYPOINT)
    throw new CliError('bad_app_json', `${ENTRYPOINT} must be a file of at most ${MAX_ENTRYPOINT} bytes`);
  const text = await readFile(path, 'utf8');
  await writeFile(path, text.replaceAll('__KMS_URL__', kmsUrl).replaceAll('__APP_ID__', `0x${appId}`));
}

async function addFolder(hash: Hash, root: string, folder: string, count: { left: number }): Promise<void> {
  for (const name of (await readdir(folder)).sort()) {
    const path = join(folder, name);
    const status = await lstat(path);
    count.left -= 1;
    if (count.left < 0)
      throw new CliError('bad_app_json', `The project has more than ${MAX_FILES} files`, {
        hint: 'Move what the image does not need out of the project',
      });
    hash.update(`${JSON.stringify(relative(root, path))} ${(status.mode & 0o170111).toString(8)} `);
    if (status.isDirectory()) {
      hash.update('\n');
      await addFolder(hash, root, path, count);
    } else if (status.isSymbolicLink()) hash.update(`${JSON.stringify(await readlink(path))}\n`);
    else if (status.isFile()) hash.update(`${await fileHash(path)}\n`);
  }
}

/** SHA-256 of a file, hex. */
export async function fileHash(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer);
  return hash.digest('hex');
}
