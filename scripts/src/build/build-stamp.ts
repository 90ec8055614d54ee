import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

interface Stamp {
  readonly node: string;
  readonly programs: readonly string[];
  /** Modification time and size of every file that went into the bundles. */
  readonly inputs: Readonly<Record<string, string>>;
}

const FILE = '.build.json';

/** True when the bundles were made from exactly the files that are there now. */
export async function isUpToDate(
  repository: string,
  outDirectory: string,
  programs: readonly string[],
): Promise<boolean> {
  try {
    const stamp = JSON.parse(await readFile(join(outDirectory, FILE), 'utf8')) as Stamp;
    if (stamp.node !== process.version || stamp.programs.join() !== programs.join()) return false;
    for (const program of programs) await stat(join(outDirectory, `${program}.js`));
    const checks = Object.entries(stamp.inputs).map(
      async ([path, mark]) => (await markOf(repository, path)) === mark,
    );
    return (await Promise.all(checks)).every(Boolean);
  } catch {
    return false;
  }
}

export async function writeStamp(
  repository: string,
  outDirectory: string,
  programs: readonly string[],
  inputs: readonly string[],
): Promise<void> {
  // The build's own files count too: other options give other bundles.
  const own = ['scripts/src/build/bundle-programs.ts', 'package-lock.json'];
  const marks = await Promise.all(
    [...inputs, ...own].map(async (path) => [path, await markOf(repository, path)] as const),
  );
  const stamp: Stamp = { node: process.version, programs, inputs: Object.fromEntries(marks) };
  await writeFile(join(outDirectory, FILE), JSON.stringify(stamp));
}

async function markOf(repository: string, path: string): Promise<string> {
  const info = await stat(join(repository, path));
  return `${info.mtimeMs}:${info.size}`;
}
