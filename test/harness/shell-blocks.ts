/** The code blocks of a Markdown file, in order. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { repository } from './run-command.ts';

/** Text of each fenced block whose language is `sh`. */
export function shellBlocks(path: string): string[] {
  return codeBlocks(path, 'sh').map((block) => block.trim());
}

/** Text of each fenced block of a language. */
export function codeBlocks(path: string, language: string): string[] {
  const text = readFileSync(join(repository, path), 'utf8');
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map(
    ([, block]) => block!,
  );
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
