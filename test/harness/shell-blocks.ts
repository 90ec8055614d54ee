/** The `sh` blocks of a Markdown file, in order. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { repository } from './run-command.ts';

/** Text of each fenced block whose language is `sh`. */
export function shellBlocks(path: string): string[] {
  const text = readFileSync(join(repository, path), 'utf8');
  return [...text.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map((match) => (match[1] ?? '').trim());
}

/** All Markdown files of the repository, relative to its root. */
export function markdownFiles(directory: string = repository): string[] {
  return readdirSync(directory).flatMap((name) => {
    if (['node_modules', 'dist', '.git', 'coverage'].includes(name)) return [];
    const path = join(directory, name);
    if (statSync(path).isDirectory()) return markdownFiles(path);
    return name.endsWith('.md') ? [relative(repository, path)] : [];
  });
}
