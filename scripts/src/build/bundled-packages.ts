import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** An npm package of which something is in a bundle; what a bill of materials says of it. */
interface BundledPackage {
  readonly name: string;
  readonly version: string;
  /** SPDX expression. */
  readonly license: string | undefined;
  /** Subresource Integrity of the tarball that it came in. */
  readonly integrity: string;
}

/**
 * The npm packages that files of a checkout belong to, by name. Packages of the checkout itself are not among them.
 *
 * @param inputs paths relative to the checkout
 */
export async function bundledPackages(
  repository: string,
  inputs: readonly string[],
): Promise<BundledPackage[]> {
  const text = await readFile(join(repository, 'package-lock.json'), 'utf8');
  const { packages } = JSON.parse(text) as { packages: Record<string, LockEntry | undefined> };
  const found = new Map<string, BundledPackage>();
  for (const folder of new Set(inputs.map(packageFolder))) {
    if (folder === undefined) continue;
    const entry = packages[folder];
    if (entry?.version === undefined || entry.integrity === undefined)
      throw new Error(`${folder} is bundled and package-lock.json does not name it with a hash`);
    const name = folder.slice(folder.lastIndexOf('node_modules/') + 'node_modules/'.length);
    const { version, license, integrity } = entry;
    found.set(`${name}@${version}`, { name, version, license, integrity });
  }
  return [...found.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one);
}

interface LockEntry {
  readonly version?: string;
  readonly license?: string;
  readonly integrity?: string;
}

/** `node_modules/@scope/name` of a file in it; undefined for a file of the checkout's own. */
function packageFolder(input: string): string | undefined {
  return /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)(?:\/|$)/.exec(input.replaceAll('\\', '/'))?.[1];
}
