import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { FileTree } from './file-tree.ts';

/** Copies a folder of the sources into the tree; only the executable bit of a file is taken over from it. */
export async function addFolder(folder: string, tree: FileTree, at = ''): Promise<void> {
  for (const entry of (await readdir(folder, { withFileTypes: true })).sort((a, b) =>
    a.name < b.name ? -1 : 1,
  )) {
    const from = join(folder, entry.name);
    const to = `${at}/${entry.name}`;
    if (entry.isDirectory()) await addFolder(from, tree, to);
    else if (entry.isSymbolicLink()) tree.symlink(to, await readlink(from));
    else tree.file(to, await readFile(from), ((await stat(from)).mode & 0o100) === 0 ? 0o644 : 0o755);
  }
}
