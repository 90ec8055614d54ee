import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { HISTORY_DIRECTORY, RETIRED_FILES } from './key-files.ts';
import type { RetiredRoot } from './kms-keys.ts';
import { damaged, type Renewal, readRoot, readText } from './read-root.ts';

/** More rotations than a KMS sees in its life. */
export const MAX_RETIRED_ROOTS = 64;

const ID = /^[0-9a-f]{40}$/;
const retiredSchema = z.object({ successor: z.string().regex(ID) });

/** The text of `retired.json`. */
export function writeRetired(successor: string, retiredAt?: number): string {
  return JSON.stringify({ successor, ...(retiredAt === undefined ? {} : { retired_at: retiredAt }) });
}

/**
 * The retired roots of a key directory, the newest first. One that is not whole is an error, not a smaller history:
 * applications may live on its keys. An operator who wants a root gone removes its whole folder.
 * @param activeId id of the root in use
 * @throws KmsError `keys-damaged`
 */
export async function loadHistory(
  directory: string,
  activeId: string,
  renewal: Renewal,
): Promise<RetiredRoot[]> {
  const folder = join(directory, HISTORY_DIRECTORY);
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  if (names.length > MAX_RETIRED_ROOTS) {
    throw damaged(directory, HISTORY_DIRECTORY, `has more than ${MAX_RETIRED_ROOTS} roots`);
  }
  const found = await Promise.all(names.sort().map((name) => readRetired(folder, name, activeId, renewal)));
  return inOrder(found, activeId);
}

async function readRetired(
  folder: string,
  name: string,
  activeId: string,
  renewal: Renewal,
): Promise<RetiredRoot> {
  const directory = join(folder, name);
  if (!ID.test(name)) throw damaged(folder, name, 'is no retired root');
  for (const { name: file } of RETIRED_FILES.filter(({ mode }) => mode === 0o600)) {
    if ((await readdir(directory)).includes(file)) continue;
    throw damaged(directory, file, 'is missing');
  }
  const root = await readRoot(directory, renewal);
  if (root.id !== name) throw damaged(directory, 'root-k256.key', `is the key of root ${root.id}`);
  if (name === activeId) throw damaged(folder, name, 'is the active root too');
  return { ...root, successor: readSuccessor(directory, await readText(directory, 'retired.json')) };
}

function readSuccessor(directory: string, text: string | undefined): string {
  try {
    return retiredSchema.parse(JSON.parse(text ?? '')).successor;
  } catch {
    throw damaged(directory, 'retired.json', 'does not name the root that came after');
  }
}

/** From the active root back; what lies behind a root that was removed comes last. */
function inOrder(found: readonly RetiredRoot[], activeId: string): RetiredRoot[] {
  const left = new Map(found.map((root) => [root.id, root]));
  const ordered: RetiredRoot[] = [];
  const follow = (successor: string): void => {
    for (let id = successor; ; ) {
      const root = [...left.values()].find((candidate) => candidate.successor === id);
      if (root === undefined) return;
      left.delete(root.id);
      ordered.push(root);
      id = root.id;
    }
  };
  follow(activeId);
  while (left.size > 0) {
    // The newest of a part: nobody in it came after it.
    const newest = [...left.values()].find(({ successor }) => !left.has(successor)) ?? [...left.values()][0]!;
    follow(newest.successor);
  }
  return ordered;
}
