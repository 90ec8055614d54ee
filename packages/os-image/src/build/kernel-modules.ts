import { mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { OsImageError } from '../errors.ts';
import { DROPPED_MODULES, INITRAMFS_MODULES, KERNEL } from '../recipe/recipe.ts';
import type { ToolBox } from '../tools/tool-box.ts';
import type { FileTree } from '../tree/file-tree.ts';
import { readContent } from './root-tree.ts';

const FOLDER = `/usr/lib/modules/${KERNEL}`;

/** A module of the initramfs: its file name and its bytes. */
export interface BootModule {
  readonly name: string;
  readonly data: Uint8Array;
}

/**
 * Leaves out modules that no TEE guest needs, undoes the compression of the others (the root is compressed as a
 * whole, and loading is faster) and makes their index.
 *
 * @returns the modules that the initramfs loads, each after those it needs
 */
export async function prepareModules(tree: FileTree, tools: ToolBox, work: string): Promise<BootModule[]> {
  const root = join(work, 'modules');
  const paths = [...tree.entries()].map(([path]) => path).filter((path) => path.startsWith(`${FOLDER}/`));
  const kept: string[] = [];
  for (const path of paths) {
    const entry = tree.get(path)!;
    if (entry.kind !== 'file') continue;
    const inside = path.slice(FOLDER.length + 1);
    if (
      inside.startsWith('kernel/') &&
      DROPPED_MODULES.some((one) => one.test(inside.slice('kernel/'.length)))
    ) {
      tree.remove(path);
      continue;
    }
    const at = join(root, path);
    await mkdir(dirname(at), { recursive: true });
    await writeFile(at, await readContent(entry.content));
    if (path.endsWith('.ko.xz')) kept.push(path);
  }
  if (kept.length === 0)
    throw new OsImageError('bad-recipe', `The packages have no modules of kernel ${KERNEL}`);
  await tools.run('usr/bin/xz', ['--decompress', '--', ...kept.map((path) => join(root, path))]);
  for (const path of kept) {
    const origin = tree.get(path)?.origin;
    tree.remove(path);
    const plain = path.slice(0, -'.xz'.length);
    const { size } = await stat(join(root, plain));
    tree.file(plain, { file: join(root, plain), size }, 0o644, origin);
  }
  await symlink('usr/lib', join(root, 'lib'));
  await tools.run('usr/bin/kmod', ['-b', root, KERNEL], {}, 'depmod');
  for (const name of [
    'modules.dep',
    'modules.alias',
    'modules.softdep',
    'modules.symbols',
    'modules.builtin.alias',
    'modules.devname',
    'modules.weakdep',
  ])
    for (const suffix of ['', '.bin']) {
      const bytes = await readFile(join(root, FOLDER, name + suffix)).catch(absent);
      if (bytes !== undefined) tree.file(`${FOLDER}/${name}${suffix}`, new Uint8Array(bytes));
    }
  const builtin = await readFile(join(root, FOLDER, 'modules.builtin.bin')).catch(absent);
  if (builtin !== undefined) tree.file(`${FOLDER}/modules.builtin.bin`, new Uint8Array(builtin));
  return await bootModules(root);
}

/** Modules in load order, by the dependencies that depmod found. */
async function bootModules(root: string): Promise<BootModule[]> {
  const needs = new Map<string, { path: string; after: string[] }>();
  for (const line of (await readFile(join(root, FOLDER, 'modules.dep'), 'utf8')).split('\n')) {
    const [path = '', after = ''] = line.split(':');
    if (path !== '')
      needs.set(nameOf(path), { path, after: after.trim().split(/\s+/).filter(Boolean).map(nameOf) });
  }
  const builtin = new Set(
    (await readFile(join(root, FOLDER, 'modules.builtin'), 'utf8')).split('\n').map(nameOf),
  );
  const ordered: BootModule[] = [];
  const add = async (name: string): Promise<void> => {
    if (ordered.some((one) => one.name === `${name}.ko`)) return;
    const module = needs.get(name);
    if (module === undefined) {
      if (builtin.has(name)) return;
      throw new OsImageError('bad-recipe', `The kernel has no module ${name}, which the initramfs loads`);
    }
    for (const one of module.after) await add(one);
    ordered.push({
      name: `${name}.ko`,
      data: new Uint8Array(await readFile(join(root, FOLDER, module.path))),
    });
  };
  for (const name of INITRAMFS_MODULES) await add(normal(name));
  return ordered;
}

function nameOf(path: string): string {
  return normal(path.slice(path.lastIndexOf('/') + 1).replace(/\.ko(\.xz)?$/, ''));
}

/** The kernel takes `-` and `_` in names for the same. */
function normal(name: string): string {
  return name.replaceAll('-', '_');
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
