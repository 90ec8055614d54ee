import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { OsImageError } from '../errors.ts';
import { runCommand } from '../tools/run-command.ts';
import type { ToolBox } from '../tools/tool-box.ts';
import type { FileTree } from '../tree/file-tree.ts';

/** Folder of the guest's own programs in the image. */
const GUEST_FOLDER = '/usr/lib/dstack';

/** Puts Node and the guest's bundled programs into the tree. */
export async function addGuestPrograms(
  tree: FileTree,
  tools: ToolBox,
  sources: { readonly nodeTarball: string; readonly programs: string; readonly work: string },
): Promise<void> {
  const { nodeTarball, programs, work } = sources;
  const folder = join(work, 'node');
  await mkdir(folder, { recursive: true });
  await runCommand('tar', ['-xzf', nodeTarball, '-C', folder, '--no-same-owner', 'package/bin/node']);
  const binary = join(folder, 'package/bin/node');
  await tools.run('usr/bin/x86_64-linux-gnu-strip', ['-o', join(folder, 'stripped'), binary]);
  const stripped = join(folder, 'stripped');
  tree.file(`${GUEST_FOLDER}/node`, { file: stripped, size: (await stat(stripped)).size }, 0o755);
  await addTree(programs, tree, GUEST_FOLDER);
}

async function addTree(folder: string, tree: FileTree, at: string): Promise<void> {
  const names = await readdir(folder, { withFileTypes: true }).catch((cause) => {
    throw new OsImageError(
      'build-failed',
      `The guest's programs are not in ${folder}; run npm run build first`,
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
