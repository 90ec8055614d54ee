import { closeSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, isAbsolute, join } from 'node:path';
import { openOwnFile, requireOwnDirectory } from '@dstack-cloud/files';

const NAME = /^dstack-[A-Za-z0-9]{6}$/;
/** Names the machine that the folder belongs to. */
const MARKER = 'machine';
/** Leaves room for `/dstack-XXXXXX/containers.sock` and the like: a socket path has 107 bytes at most. */
const MAX_TMPDIR = 64;
const OTHERS = 0o077;

/** A folder for the sockets of one run of a machine, for this user alone. */
export function makeRunFolder(machineId: string): string {
  const dir = mkdtempSync(join(base(), 'dstack-'));
  writeFileSync(join(dir, MARKER), machineId, { mode: 0o600, flag: 'wx' });
  return dir;
}

/**
 * Removes a run folder, if it is one that {@link makeRunFolder} made for this machine: of this user, closed to others,
 * not a link, with the machine's name in it. A path that only a file names is no reason to delete anything.
 *
 * @returns whether it was one
 */
export function removeRunFolder(path: string, machineId: string): boolean {
  if (!isRunFolder(path, machineId)) return false;
  rmSync(path, { recursive: true, force: true });
  return true;
}

/** Removes every run folder of a machine, also one that no state names: its supervisor was killed before it wrote it. */
export function removeRunFolders(machineId: string, named: string | null): void {
  if (named !== null) removeRunFolder(named, machineId);
  for (const name of readdirSync(base())) if (NAME.test(name)) removeRunFolder(join(base(), name), machineId);
}

function isRunFolder(path: string, machineId: string): boolean {
  if (machineId === '' || !isAbsolute(path) || !NAME.test(basename(path))) return false;
  try {
    requireOwnDirectory(path, OTHERS);
    const marker = openOwnFile(join(path, MARKER), 'read');
    try {
      return readFileSync(marker, 'utf8') === machineId;
    } finally {
      closeSync(marker);
    }
  } catch {
    return false;
  }
}

/** A shared folder for temporary files must be sticky, else others could put theirs in the place of ours. */
function base(): string {
  const wanted = tmpdir();
  const status = lstatSync(wanted, { throwIfNoEntry: false });
  const isClosed =
    status?.isDirectory() === true && ((status.mode & 0o022) === 0 || (status.mode & 0o1000) !== 0);
  return isClosed && Buffer.byteLength(wanted) <= MAX_TMPDIR ? wanted : '/tmp';
}
