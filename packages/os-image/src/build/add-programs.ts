import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OsImageError } from '../errors.ts';
import type { FileTree } from '../tree/file-tree.ts';

/** Folder of our own programs in an image. */
export const PROGRAM_FOLDER = '/usr/lib/dstack';

/** Puts a folder of bundled programs into the tree; hidden files are the build's own. */
export async function addPrograms(programs: string, tree: FileTree): Promise<void> {
  await addTree(programs, tree, PROGRAM_FOLDER);
}

async function addTree(folder: string, tree: FileTree, at: string): Promise<void> {
  const names = await readdir(folder, { withFileTypes: true }).catch((cause) => {
    throw new OsImageError(
      'build-failed',
      `The programs that belong into the image are not in ${folder}; run npm run build first`,
      { cause },
    );
  });
  for (const entry of names.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const from = join(folder, entry.name);
    if (entry.isDirectory()) await addTree(from, tree, `${at}/${entry.name}`);
    else if (entry.isFile() && !entry.name.startsWith('.'))
      tree.file(`${at}/${entry.name}`, new Uint8Array(await readFile(from)));
  }
}
