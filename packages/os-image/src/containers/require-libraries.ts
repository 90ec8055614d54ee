import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readContent } from '../build/root-tree.ts';
import { OsImageError } from '../errors.ts';
import type { ToolBox } from '../tools/tool-box.ts';
import type { FileTree } from '../tree/file-tree.ts';

const LIBRARY_FOLDER = '/usr/lib/x86_64-linux-gnu';
const ELF = [0x7f, 0x45, 0x4c, 0x46];

/** Refuses a tree with a program or library that needs a library which is not in it. */
export async function requireLibraries(
  trees: readonly FileTree[],
  tools: ToolBox,
  work: string,
): Promise<void> {
  await mkdir(work, { recursive: true });
  for (const tree of trees)
    for (const [path, entry] of tree.entries()) {
      if (entry.kind !== 'file') continue;
      const bytes = await readContent(entry.content);
      if (!ELF.every((byte, index) => bytes[index] === byte)) continue;
      const file = join(work, 'elf');
      await writeFile(file, bytes);
      const said = await tools.run('usr/bin/x86_64-linux-gnu-readelf', ['--dynamic', '--wide', file]);
      for (const [, name] of said.matchAll(/\(NEEDED\)\s+Shared library: \[([^\]]+)\]/g))
        if (!trees.some((one) => one.target(`${LIBRARY_FOLDER}/${name}`)?.kind === 'file'))
          throw new OsImageError('bad-recipe', `${path} needs ${name}, which is not in the container image`);
    }
}
