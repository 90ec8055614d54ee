import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../tools/run-command.ts';
import type { ToolBox } from '../tools/tool-box.ts';
import type { FileTree } from '../tree/file-tree.ts';
import { PROGRAM_FOLDER } from './add-programs.ts';
import { NODE_COMPONENT } from './bill-of-materials.ts';

/** Puts Node into the tree, without its symbols, which only debuggers read. */
export async function addNode(
  tree: FileTree,
  tools: ToolBox,
  { nodeTarball, work }: { readonly nodeTarball: string; readonly work: string },
): Promise<void> {
  const folder = join(work, 'node');
  await mkdir(folder, { recursive: true });
  await runCommand('tar', ['-xzf', nodeTarball, '-C', folder, '--no-same-owner', 'package/bin/node']);
  const binary = join(folder, 'package/bin/node');
  await tools.run('usr/bin/x86_64-linux-gnu-strip', ['-o', join(folder, 'stripped'), binary]);
  const stripped = join(folder, 'stripped');
  const content = { file: stripped, size: (await stat(stripped)).size };
  tree.file(`${PROGRAM_FOLDER}/node`, content, 0o755, NODE_COMPONENT);
}
