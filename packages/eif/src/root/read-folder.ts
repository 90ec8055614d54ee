import { lstat, readdir, readlink } from 'node:fs/promises';
import { EifError } from '../errors.ts';
import { type ByteName, type RootEntry, RootTree, shown } from './root-tree.ts';

/** A file with this much less on disk than its length is told of, bytes. */
const HOLE = 1 << 20;

/** The path as the file system wants it. */
export function bytePath(path: ByteName): Buffer {
  return Buffer.from(path, 'latin1');
}

/** Takes a folder for the root. Owners and modes are those that the files have. @throws EifError `bad-image` */
export async function readFolder(folder: string, warn: (line: string) => void): Promise<RootTree> {
  const tree = new RootTree();
  const root = Buffer.from(folder).toString('latin1').replace(/\/+$/, '');
  const info = await lstat(bytePath(root === '' ? '/' : root));
  if (!info.isDirectory()) throw new EifError('bad-argument', `${folder} is not a folder`);
  const { dev } = info;
  const visit = async (at: ByteName): Promise<void> => {
    // "latin1" gives each byte of a name as a character.
    for (const name of await readdir(bytePath(`${root}/${at}`), { encoding: 'latin1' })) {
      const path = at === '' ? name : `${at}/${name}`;
      const entry = await entryAt(`${root}/${path}`, path, dev, warn);
      tree.set(`./${path}`, entry, 0);
      if (entry.kind === 'directory') await visit(path);
    }
  };
  await visit('');
  return tree;
}

async function entryAt(
  full: ByteName,
  path: ByteName,
  device: number,
  warn: (line: string) => void,
): Promise<RootEntry> {
  const info = await lstat(bytePath(full));
  const owner = { mode: info.mode & 0o7777, uid: info.uid, gid: info.gid };
  if (info.isDirectory()) {
    if (info.dev !== device)
      throw new EifError('bad-image', `${shown(path)} is another file system that is mounted in the folder`, {
        hint: 'Unmount it, or copy what belongs to the image',
      });
    return { ...owner, kind: 'directory' };
  }
  if (info.isFile()) {
    if (info.size - info.blocks * 512 > HOLE)
      warn(
        `${shown(path)} has holes: ${info.blocks * 512} bytes on disk become ${info.size} bytes in the image and in the memory of the enclave`,
      );
    return { ...owner, kind: 'file', size: info.size, content: { path: full } };
  }
  if (info.isSymbolicLink()) {
    const target = await readlink(bytePath(full), { encoding: 'latin1' });
    return { ...owner, mode: 0o777, kind: 'symlink', target };
  }
  if (info.isFIFO()) return { ...owner, kind: 'fifo' };
  if (info.isCharacterDevice() || info.isBlockDevice())
    return {
      ...owner,
      kind: info.isBlockDevice() ? 'block-device' : 'character-device',
      ...deviceNumbers(info.rdev),
    };
  throw new EifError('bad-image', `${shown(path)} is a socket, which an image cannot have`, {
    hint: 'Stop the program that listens on it, and remove it',
  });
}

/** As glibc's gnu_dev_major and gnu_dev_minor take a number apart. */
function deviceNumbers(device: number): { major: number; minor: number } {
  const bits = BigInt(device);
  return {
    major: Number(((bits >> 8n) & 0xfffn) | ((bits >> 32n) & 0xfffff000n)),
    minor: Number((bits & 0xffn) | ((bits >> 12n) & 0xffffff00n)),
  };
}
