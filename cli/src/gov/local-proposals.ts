import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readFileBounded } from '@dstack-cloud/app';
import { type Proposal, readProposal } from '@dstack-cloud/governance';

/** Files that are looked at in one folder, those with the names that this program gives first. */
const MAX_FILES = 200;
/** A proposal with its effect in words. */
const MAX_FILE = 1024 * 1024;
const MAX_ALL = 32 * MAX_FILE;

/** A proposal that signers pass on as a file. */
export type LocalProposal = { readonly path: string; readonly proposal: Proposal };

/**
 * Proposals among the JSON files of some folders. What is no proposal is passed over, whatever it is; of more files than are
 * looked at the number is given.
 */
export async function localProposals(
  folders: readonly string[],
): Promise<{ proposals: LocalProposal[]; filesLeftOut: number }> {
  let filesLeftOut = 0;
  const found: LocalProposal[] = [];
  let bytes = 0;
  for (const folder of new Set(folders)) {
    const names = await readdir(folder).catch(() => []);
    const isOurs = (name: string): boolean => name.startsWith('proposal-');
    const json = names.filter((name) => name.endsWith('.json')).sort();
    const sorted = [...json.filter(isOurs), ...json.filter((name) => !isOurs(name))];
    filesLeftOut += Math.max(0, sorted.length - MAX_FILES);
    for (const name of sorted.slice(0, MAX_FILES)) {
      const path = join(folder, name);
      try {
        const file = await readFileBounded(path, Math.min(MAX_FILE, MAX_ALL - bytes), { noFollow: true });
        bytes += file.length;
        found.push({ path, proposal: readProposal(new TextDecoder().decode(file), path) });
      } catch {
        // Another document, or none.
      }
    }
  }
  return { proposals: found, filesLeftOut };
}
