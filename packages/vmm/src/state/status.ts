import { readdir } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { isThere, lockHolder } from '@dstack-cloud/files';
import { VmmError } from '../errors.ts';
import { canonical, requireMachineFolder } from '../folder/machine-folder.ts';
import { type CvmManifest, MANIFEST_FILE, readManifest } from '../manifest/manifest.ts';
import { foldersWithProcesses, machineProcesses } from '../programs/machine-processes.ts';
import { type CvmState, INITIAL_STATE, readState, STATE_FILE } from './state.ts';
import { supervisorOf } from './supervisor-of.ts';

/** What is known about one machine. */
export interface CvmStatus {
  readonly dir: string;
  /** As the manifest has it; the folder's name when that cannot be read. */
  readonly name: string;
  readonly manifest: CvmManifest | undefined;
  /** With status `damaged` and the reason as its error when a file of the machine cannot be read. */
  readonly state: Omit<CvmState, 'status'> & { readonly status: CvmState['status'] | 'damaged' };
}

/**
 * Manifest and state of the machine in `dir`. A state that its dead supervisor left is corrected; a machine whose files
 * cannot be read is damaged, not absent. Throws `not_found`, `not_ours`.
 */
export async function cvmStatus(dir: string): Promise<CvmStatus> {
  const problems: string[] = [];
  const reading = async <T>(read: (dir: string) => Promise<T>): Promise<T | undefined> => {
    try {
      return await read(dir);
    } catch (error) {
      if (!(error instanceof VmmError)) throw error;
      problems.push(error.message);
      return undefined;
    }
  };
  if (!isThere(dir)) return vanished(dir);
  await requireMachineFolder(dir);
  if (!isMachine(dir)) throw new VmmError('not_found', `There is no machine in ${dir}`);
  const manifest = await reading(readManifest);
  const state = await reading(readState);
  const supervisor = supervisorOf(dir, state);
  const known = { dir, name: manifest?.name ?? basename(resolve(dir)), manifest };
  if (state === undefined || problems.length > 0)
    return damaged(known, state, problems.join('; '), supervisor ?? null);
  const claimsLife = state.status === 'running' || state.status === 'preparing';
  const isStarting = state.status === 'preparing' && lockHolder(dir, 'machine') !== undefined;
  if (claimsLife && supervisor === undefined && !isStarting)
    return { ...known, state: { ...state, status: 'failed', error: 'The supervisor died', urls: {} } };
  return { ...known, state };
}

/**
 * Every machine below the run folder, oldest first; damaged ones too, and those whose folder is gone while programs of
 * them run. A folder that holds no machine is passed over.
 */
export async function listCvms(runPath: string): Promise<CvmStatus[]> {
  const names = await readdir(runPath).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const folders = names.filter((name) => isMachine(join(runPath, name))).map((name) => join(runPath, name));
  const gone = foldersWithProcesses().filter((dir) => dirname(dir) === canonical(runPath) && !isThere(dir));
  const found = await Promise.all([...folders, ...gone].sort().map(statusOrDamage));
  return found
    .filter((status) => status !== undefined)
    .sort((a, b) => (a.manifest?.created_at_ms ?? 0) - (b.manifest?.created_at_ms ?? 0));
}

/** Whether a folder has a file of a machine in it, of whatever kind or state. */
export function isMachine(dir: string): boolean {
  try {
    return isThere(join(dir, MANIFEST_FILE)) || isThere(join(dir, STATE_FILE));
  } catch {
    // A folder that cannot be looked into may be one.
    return true;
  }
}

async function statusOrDamage(dir: string): Promise<CvmStatus | undefined> {
  try {
    return await cvmStatus(dir);
  } catch (error) {
    const { code, message } = error as VmmError;
    // Removed while we looked.
    if (code === 'not_found') return undefined;
    return damaged({ dir, name: basename(dir), manifest: undefined }, undefined, message, null);
  }
}

function vanished(dir: string): CvmStatus {
  const left = machineProcesses(dir);
  if (left.length === 0) throw new VmmError('not_found', `There is no machine in ${dir}`);
  const text = `Its folder ${dir} is gone, but ${left.length} programs of it run: stop it`;
  return damaged({ dir, name: basename(resolve(dir)), manifest: undefined }, undefined, text, null);
}

function damaged(
  known: Omit<CvmStatus, 'state'>,
  state: CvmState | undefined,
  error: string,
  supervisor: CvmState['supervisor'],
): CvmStatus {
  return { ...known, state: { ...(state ?? INITIAL_STATE), status: 'damaged', error, supervisor } };
}
