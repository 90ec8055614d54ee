import { open } from 'node:fs/promises';
import { OsImageError } from '../errors.ts';
import { elfNeeds, isElf } from '../formats/elf.ts';
import type { Content, FileTree } from '../tree/file-tree.ts';
import { readContent } from './root-tree.ts';

/** Where Debian's loader looks for libraries (ldconfig's configuration of amd64). */
const LIBRARY_FOLDERS = ['/usr/lib/x86_64-linux-gnu', '/usr/lib', '/usr/lib64'];
/** Loaded by the kernel, or by nobody: boot stubs and kernel modules have no libraries. */
const NOT_LOADED = /\.(ko|efi|stub)(\.xz|\.zst)?$/;

/** A program or library of a tree, and what of it the loader would not find. */
interface MissingLibrary {
  readonly path: string;
  readonly library: string;
}

/** Every library that a program or library of the trees, which lie over one another, needs and that is not there. */
async function missingLibraries(trees: readonly FileTree[]): Promise<MissingLibrary[]> {
  const missing: MissingLibrary[] = [];
  const isThere = (path: string): boolean => trees.some((tree) => tree.target(path)?.kind === 'file');
  for (const tree of trees)
    for (const [path, entry] of tree.entries()) {
      if (entry.kind !== 'file' || NOT_LOADED.test(path) || !isElf(await headOf(entry.content))) continue;
      const { interpreter, libraries, folders } = elfNeeds(await readContent(entry.content), path);
      const origin = path.slice(0, path.lastIndexOf('/'));
      const searched = [
        ...folders.map((folder) => folder.replace(/\$(ORIGIN|\{ORIGIN\})/, origin)),
        // A program that found this library by a folder of its own has loaded its neighbours from there.
        ...(interpreter === undefined ? [origin] : []),
        ...LIBRARY_FOLDERS,
      ];
      if (interpreter !== undefined && !isThere(interpreter)) missing.push({ path, library: interpreter });
      for (const library of libraries) {
        const places = library.includes('/') ? [library] : searched.map((folder) => `${folder}/${library}`);
        if (!places.map(plain).some((place) => place.startsWith('/') && isThere(place)))
          missing.push({ path, library });
      }
    }
  return missing;
}

/** Refuses trees with a program or library that would not start. @throws OsImageError `bad-recipe` */
export async function requireLibraries(trees: readonly FileTree[], what: string): Promise<void> {
  const missing = await missingLibraries(trees);
  if (missing.length === 0) return;
  const list = missing.map(({ path, library }) => `${path} needs ${library}`).join('; ');
  throw new OsImageError(
    'bad-recipe',
    `The ${what} has programs that cannot start: ${list}. Add the package with the library to the recipe, or leave the program out`,
  );
}

async function headOf(content: Content): Promise<Uint8Array> {
  if (content instanceof Uint8Array) return content.subarray(0, 4);
  const file = await open(content.file, 'r');
  try {
    const head = new Uint8Array(4);
    await file.read(head, 0, head.length, 0);
    return head;
  } finally {
    await file.close();
  }
}

/** `a/../b` and `a/./b` as a tree takes them. */
function plain(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return path.startsWith('/') ? `/${parts.join('/')}` : path;
}
