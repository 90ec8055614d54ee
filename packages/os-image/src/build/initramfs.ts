import { readFile } from 'node:fs/promises';
import { utf8 } from '@dstack-cloud/encoding';
import { OsImageError } from '../errors.ts';
import { type CpioEntry, writeCpio } from '../formats/cpio.ts';
import type { FileTree } from '../tree/file-tree.ts';
import type { BootModule } from './kernel-modules.ts';
import { bytesOf, filePath } from './root-tree.ts';

/** Programs of the initramfs besides busybox; their libraries come along. */
const PROGRAMS = ['/usr/sbin/veritysetup'];
const LIBRARY_FOLDERS = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/x86_64-linux-gnu/cryptsetup'];
const LOADER = '/usr/lib64/ld-linux-x86-64.so.2';

/** The first file system of the machine, uncompressed: busybox, veritysetup, modules and our `init`. */
export async function buildInitramfs(
  tree: FileTree,
  modules: readonly BootModule[],
  recipe: string,
): Promise<Uint8Array> {
  const files = new Map<string, CpioEntry>();
  const put = (path: string, data: Uint8Array, mode = 0o755) =>
    files.set(path, { path, kind: 'file', mode, data });
  put('init', await readFile(filePath(recipe, 'initramfs', 'init')));
  put('bin/busybox', await bytesOf(tree, '/usr/bin/busybox'));
  for (const program of PROGRAMS)
    put(`bin/${program.slice(program.lastIndexOf('/') + 1)}`, await bytesOf(tree, program));
  for (const [name, data] of await libraries(tree, PROGRAMS)) put(`usr/lib/x86_64-linux-gnu/${name}`, data);
  put('lib64/ld-linux-x86-64.so.2', await bytesOf(tree, LOADER));
  for (const { name, data } of modules) put(`modules/${name}`, data, 0o644);
  put('modules/order', utf8(modules.map(({ name }) => `${name}\n`).join('')), 0o644);
  const folders = new Set<string>(['dev', 'proc', 'sys', 'run', 'sysroot', 'tmp']);
  for (const path of files.keys())
    for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1))
      folders.add(path.slice(0, at));
  const entries: CpioEntry[] = [...folders].map((path) => ({ path, kind: 'directory', mode: 0o755 }));
  return writeCpio([...entries, ...files.values()].sort((a, b) => (a.path < b.path ? -1 : 1)));
}

/** The shared libraries that programs of the image need, by name, through all levels. */
async function libraries(tree: FileTree, programs: readonly string[]): Promise<Map<string, Uint8Array>> {
  const found = new Map<string, Uint8Array>();
  const queue: Uint8Array[] = [];
  for (const program of programs) queue.push(await bytesOf(tree, program));
  for (let program = queue.pop(); program !== undefined; program = queue.pop()) {
    for (const name of neededLibraries(program)) {
      if (found.has(name) || name.startsWith('ld-linux')) continue;
      const data = await readLibrary(tree, name);
      found.set(name, data);
      queue.push(data);
    }
  }
  return found;
}

async function readLibrary(tree: FileTree, name: string): Promise<Uint8Array> {
  const path = LIBRARY_FOLDERS.map((folder) => `${folder}/${name}`).find(
    (one) => tree.target(one)?.kind === 'file',
  );
  if (path !== undefined) return await bytesOf(tree, path);
  throw new OsImageError('bad-recipe', `The library ${name} is not in the image`);
}

const DT_NEEDED = 1n;
const DT_STRTAB = 5n;
const PT_LOAD = 1;
const PT_DYNAMIC = 2;

/** Names in the DT_NEEDED entries of a 64-bit ELF file (System V ABI, dynamic section). */
function neededLibraries(file: Uint8Array): string[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < 64 || view.getUint32(0) !== 0x7f454c46 || file[4] !== 2) return [];
  const table = Number(view.getBigUint64(32, true));
  const segments = Array.from({ length: view.getUint16(56, true) }, (_, i) => {
    const at = table + i * 56;
    const field = (offset: number) => Number(view.getBigUint64(at + offset, true));
    return { type: view.getUint32(at, true), offset: field(8), address: field(16), size: field(32) };
  });
  const dynamic = segments.find(({ type }) => type === PT_DYNAMIC);
  if (!dynamic) return [];
  const names: number[] = [];
  let strings = 0;
  for (let at = dynamic.offset; at < dynamic.offset + dynamic.size; at += 16) {
    const tag = view.getBigInt64(at, true);
    const value = Number(view.getBigUint64(at + 8, true));
    if (tag === DT_NEEDED) names.push(value);
    if (tag === DT_STRTAB) strings = value;
  }
  const load = segments.find(
    (one) => one.type === PT_LOAD && strings >= one.address && strings < one.address + one.size,
  );
  if (!load) return [];
  const base = strings - load.address + load.offset;
  return names.map((name) => {
    const end = file.indexOf(0, base + name);
    return new TextDecoder('latin1').decode(file.subarray(base + name, end));
  });
}
