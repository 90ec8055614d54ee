import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { type Header, pack } from 'tar-stream';
import { type Content, contentSize, type Entry, type FileTree } from './file-tree.ts';

/** Writes the tree as a tar file, in the order of its paths, every time the same. One file at a time is in memory. */
export async function writeTar(tree: FileTree, mtimeSeconds: number, file: string): Promise<void> {
  const archive = pack();
  const written = pipeline(archive, createWriteStream(file));
  const write = async (): Promise<void> => {
    for (const [path, entry] of tree.entries()) {
      if (path === '/') continue;
      const content = entry.kind === 'file' ? await bytes(entry.content) : Buffer.alloc(0);
      await new Promise<void>((resolve, reject) => {
        archive.entry(header(path, entry, mtimeSeconds), content, (error) =>
          error ? reject(error) : resolve(),
        );
      });
    }
    archive.finalize();
  };
  await Promise.all([written, write()]);
}

function header(path: string, entry: Entry, mtimeSeconds: number): Partial<Header> & Pick<Header, 'name'> {
  const { mode, uid, gid } = entry;
  const common = { name: path.slice(1), mode, uid, gid, mtime: new Date(mtimeSeconds * 1000) };
  switch (entry.kind) {
    case 'directory':
      return { ...common, name: `${common.name}/`, type: 'directory' };
    case 'symlink':
      return { ...common, type: 'symlink', linkname: entry.target };
    case 'file':
      return { ...common, type: 'file', size: contentSize(entry.content) };
  }
}

async function bytes(content: Content): Promise<Buffer> {
  return content instanceof Uint8Array ? Buffer.from(content) : await readFile(content.file);
}
