import { readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';

const IMPORT = /(\bfrom\s+|\bimport\()'([^']+)'/g;

/**
 * Declarations of a module and of everything of this repository that they refer to, below `types`. They have to be built
 * (`tsc -b`).
 *
 * @param folder of the package, `packages/sdk`
 */
export function declarations(repository: string, folder: string, file: string): Map<string, string> {
  const found = new Map<string, string>();
  const add = (source: string): string => {
    const target = `types/${source}`;
    if (found.has(target)) return target;
    found.set(target, '');
    const text = readFileSync(join(repository, source.replace(/^([^/]+\/[^/]+)\//, '$1/dist/')), 'utf8');
    const rewritten = text.replaceAll(IMPORT, (whole, before: string, specifier: string) => {
      const next = resolve(repository, source, specifier);
      if (next === undefined) return whole;
      const path = posix.relative(posix.dirname(target), add(next)).replace(/\.d\.ts$/, '.js');
      return `${before}'${path.startsWith('.') ? path : `./${path}`}'`;
    });
    found.set(target, rewritten);
    return target;
  };
  add(`${folder}/${file}.d.ts`);
  return found;
}

/** `packages/x/y.d.ts` of a specifier; undefined for a package of others. */
function resolve(repository: string, source: string, specifier: string): string | undefined {
  if (specifier.startsWith('.')) return posix.join(dirname(source), specifier.replace(/\.ts$/, '.d.ts'));
  const own = /^@dstack-cloud\/([^/]+)(\/.+)?$/.exec(specifier);
  if (own === null) return undefined;
  const folder = `packages/${own[1]}`;
  const manifest = JSON.parse(readFileSync(join(repository, folder, 'package.json'), 'utf8')) as {
    exports: Record<string, { types: string } | undefined>;
  };
  const types = manifest.exports[own[2] === undefined ? '.' : `.${own[2]}`]?.types;
  if (types === undefined) throw new Error(`${source} refers to ${specifier}, which has no declarations`);
  return posix.join(folder, types.replace('./dist/', ''));
}
