import {
  closeSync,
  fstatSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, isAbsolute, join } from 'node:path';
import { holderLives, holderTag, isThere, openOwnFile, requireOwnDirectory } from '@dstack-cloud/files';

const NAME = /^dstack-[A-Za-z0-9]{6}$/;
/** Names the machine that the folder belongs to. */
const MARKER = 'machine';
/** Leaves room for `/dstack-XXXXXX/containers.sock` and the like: a socket path has 107 bytes at most. */
const MAX_TMPDIR = 64;
const OTHERS = 0o077;
const MAX_MARKER = 8 * 1024;
const MARKER_TEXT = /^([0-9a-f-]{36})\n(\/[^\n]*)\n([0-9a-f-]+)\n$/;

/** The machine that a run folder belongs to: by the id of its manifest, which may be unknown, and by its folder. */
export interface RunOwner {
  readonly id: string | undefined;
  /** As {@link canonical} writes it. */
  readonly dir: string;
}

/** What the mark says. */
interface Marker extends RunOwner {
  readonly id: string;
  /** The supervisor that made the folder. */
  readonly maker: string;
}

/** A folder for the sockets of one run of a machine, for this user alone. */
export function makeRunFolder(machine: RunOwner & { readonly id: string }): string {
  const dir = mkdtempSync(join(base(), 'dstack-'));
  writeFileSync(join(dir, MARKER), `${machine.id}\n${machine.dir}\n${holderTag()}\n`, {
    mode: 0o600,
    flag: 'wx',
  });
  return dir;
}

/**
 * Removes a run folder, if it is one that {@link makeRunFolder} made for this machine: of this user, closed to others,
 * not a link, with the machine's name in it. A path that only a file names is no reason to delete anything.
 *
 * @returns whether it was one
 */
export function removeRunFolder(path: string, machine: RunOwner): boolean {
  const owner = ownerOf(path);
  if (owner === undefined || !(owner.id === machine.id || owner.dir === machine.dir)) return false;
  rmSync(path, { recursive: true, force: true });
  return true;
}

/**
 * Removes every run folder of a machine, also one that no state names: its supervisor was killed before it wrote it. Those
 * of machines that are gone go too, since nobody comes back for them.
 */
export function removeRunFolders(machine: RunOwner, named: string | null): void {
  if (named !== null) removeRunFolder(named, machine);
  for (const name of readdirSync(base())) {
    if (!NAME.test(name)) continue;
    const path = join(base(), name);
    const owner = ownerOf(path);
    if (owner !== undefined) removeRunFolder(path, isLeft(owner) ? owner : machine);
  }
}

/** Whose run folder this is; undefined for anything that is none of this user's. */
function ownerOf(path: string): Marker | undefined {
  if (!isAbsolute(path) || !NAME.test(basename(path))) return undefined;
  try {
    requireOwnDirectory(path, OTHERS);
    const marker = openOwnFile(join(path, MARKER), 'read');
    try {
      if (fstatSync(marker).size > MAX_MARKER) return undefined;
      const [, id, dir, maker] = MARKER_TEXT.exec(readFileSync(marker, 'utf8')) ?? [];
      return id && dir && maker ? { id, dir, maker } : undefined;
    } finally {
      closeSync(marker);
    }
  } catch {
    return undefined;
  }
}

/** Neither the machine nor the supervisor is there any more; what another container made cannot be checked. */
function isLeft({ dir, maker }: Marker): boolean {
  try {
    return !isThere(dir) && holderLives(maker) === false;
  } catch {
    return false;
  }
}

/** What swtpm, vhost-device-vsock and socat take as a part of a path; they separate options and addresses by other characters. */
const PLAIN_PATH = /^[A-Za-z0-9/._-]+$/;

/**
 * A shared folder for temporary files must be sticky, else others could put theirs in the place of ours. Its path becomes
 * part of options in which a comma begins the next one and nothing quotes it.
 */
function base(): string {
  const wanted = tmpdir();
  const status = lstatSync(wanted, { throwIfNoEntry: false });
  const isClosed =
    status?.isDirectory() === true && ((status.mode & 0o022) === 0 || (status.mode & 0o1000) !== 0);
  return isClosed && PLAIN_PATH.test(wanted) && Buffer.byteLength(wanted) <= MAX_TMPDIR ? wanted : '/tmp';
}
