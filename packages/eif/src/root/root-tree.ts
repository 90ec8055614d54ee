import type { ByteSource } from '../byte-source.ts';
import { EifError } from '../errors.ts';

/** Names are bytes, held as Latin-1 text: Linux gives them no encoding, and their order is that of bytes. */
export type ByteName = string;

export type RootEntry = {
  /** Permission bits, with set-id and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
} & (
  | { readonly kind: 'directory' }
  | { readonly kind: 'file'; readonly size: number; readonly content: Content }
  | { readonly kind: 'symlink'; readonly target: ByteName }
  | { readonly kind: 'character-device' | 'block-device'; readonly major: number; readonly minor: number }
  | { readonly kind: 'fifo' }
);

/** Where the bytes of a file lie. */
export type Content =
  | { readonly source: ByteSource; readonly offset: number }
  /** A file of a folder, by its path. */
  | { readonly path: ByteName };

interface Node {
  entry: RootEntry;
  /** Which layer it is from. */
  layer: number;
  children: Map<ByteName, Node> | undefined;
}

/** Most files, folders and links; each takes some hundred bytes of memory. */
const MAX_ENTRIES = 200_000;
/** Room for `rootfs/` before it and NUL behind it in the kernel's PATH_MAX. */
const MAX_PATH = 4096 - 8;
const MAX_NAME = 255;
const MAX_LINKS = 40;
/** Links in a path can lead deeper than its own length; MAX_PATH allows no more than this either. */
const MAX_DEPTH = 1024;

/**
 * The files of an application's root. Layers are put on each other by the rules of the OCI image specification (layer.md):
 * whiteouts hide what lower layers have, never what their own layer brings, wherever they stand in it.
 */
export class RootTree {
  readonly #root: Node = node({ kind: 'directory', mode: 0o755, uid: 0, gid: 0 }, -1);
  #count = 0;

  /** @param layer number of the layer, 0 first @throws EifError `bad-image`, `too-large` */
  set(path: ByteName, entry: RootEntry, layer: number): void {
    const parts = split(path);
    const name = parts.pop();
    if (name === undefined) {
      if (entry.kind === 'directory') this.#root.entry = entry;
      return;
    }
    const parent = this.#folder(parts, path, layer);
    parent.children ??= new Map();
    const known = parent.children.get(name);
    if (known === undefined) this.#add(1);
    else if (known.entry.kind === 'directory' && entry.kind !== 'directory') this.#add(-weight(known) + 1);
    const children =
      entry.kind === 'directory' && known?.entry.kind === 'directory' ? known.children : undefined;
    parent.children.set(name, { entry, layer, children });
  }

  /** Hides what lower layers have at a path. */
  whiteout(path: ByteName, layer: number): void {
    const parts = split(path);
    const name = parts.pop();
    const children = this.#existing(parts, path)?.children;
    const hidden = name === undefined ? undefined : children?.get(name);
    if (name === undefined || hidden === undefined) return;
    this.#hide(hidden, layer);
    if (hidden.layer >= layer || (hidden.children?.size ?? 0) > 0) return;
    this.#add(-1);
    children?.delete(name);
  }

  /** Hides what lower layers have below a folder. */
  opaque(path: ByteName, layer: number): void {
    this.#hide(this.#existing(split(path), path), layer);
  }

  /** What lies at a path, links in its folders followed. */
  get(path: ByteName): RootEntry | undefined {
    const parts = split(path);
    const name = parts.pop();
    if (name === undefined) return this.#root.entry;
    return this.#existing(parts, path)?.children?.get(name)?.entry;
  }

  get size(): number {
    return this.#count;
  }

  /** All entries but the root itself, in the order of the bytes of their paths. */
  entries(): { path: ByteName; entry: RootEntry }[] {
    const found: { path: ByteName; entry: RootEntry }[] = [];
    const visit = (at: Node, prefix: ByteName): void => {
      for (const [name, child] of at.children ?? []) {
        if (prefix.length + name.length > MAX_PATH) tooLong(prefix + name);
        found.push({ path: prefix + name, entry: child.entry });
        visit(child, `${prefix}${name}/`);
      }
    };
    visit(this.#root, '');
    return found.sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  /** Removes what lower layers put below a folder. */
  #hide(at: Node | undefined, layer: number): void {
    for (const [name, child] of at?.children ?? []) {
      this.#hide(child, layer);
      if (child.layer >= layer || (child.children?.size ?? 0) > 0) continue;
      this.#add(-1);
      at?.children?.delete(name);
    }
  }

  /** The folder of these names; missing ones are made. */
  #folder(parts: readonly ByteName[], path: ByteName, layer: number): Node {
    return this.#walk(parts, path, (parent, name) => {
      const made = node({ kind: 'directory', mode: 0o755, uid: 0, gid: 0 }, layer);
      this.#add(1);
      parent.children ??= new Map();
      parent.children.set(name, made);
      return made;
    })!;
  }

  #existing(parts: readonly ByteName[], path: ByteName): Node | undefined {
    return this.#walk(parts, path, () => undefined);
  }

  /** Follows links on the way, and never out of the root. */
  #walk(
    parts: readonly ByteName[],
    path: ByteName,
    missing: (parent: Node, name: ByteName) => Node | undefined,
  ): Node | undefined {
    const queue = [...parts];
    const way: Node[] = [this.#root];
    for (let links = 0; queue.length > 0; ) {
      const name = queue.shift()!;
      const here = way.at(-1)!;
      if (name === '..') {
        if (way.length > 1) way.pop();
        continue;
      }
      const next = here.children?.get(name) ?? missing(here, name);
      if (next === undefined) return undefined;
      if (next.entry.kind === 'directory') {
        way.push(next);
        if (way.length > MAX_DEPTH) tooDeep(path);
      } else if (next.entry.kind === 'symlink') {
        if (++links > MAX_LINKS) bad(`${shown(path)} lies below links that lead to each other`);
        if (next.entry.target.startsWith('/')) way.length = 1;
        queue.unshift(...next.entry.target.split('/').filter((one) => one !== '' && one !== '.'));
      } else bad(`${shown(path)} lies below ${shown(name)}, which is not a folder`);
    }
    return way.at(-1);
  }

  #add(count: number): void {
    this.#count += count;
    if (this.#count > MAX_ENTRIES)
      throw new EifError('too-large', 'The root has too many files', {
        expected: `at most ${MAX_ENTRIES} files, folders and links`,
        hint: 'Leave out what the application does not need: caches, sources, documentation',
      });
  }
}

function node(entry: RootEntry, layer: number): Node {
  return { entry, layer, children: undefined };
}

function weight(at: Node): number {
  let count = 1;
  for (const child of at.children?.values() ?? []) count += weight(child);
  return count;
}

/** @throws EifError `bad-image` for names that no file can have */
function split(path: ByteName): ByteName[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (path.includes('\0') || parts.includes('..'))
    bad(`${shown(path)} cannot be the name of a file in the image`);
  if (path.length > MAX_PATH || parts.some((part) => part.length > MAX_NAME)) tooLong(path);
  return parts;
}

/** A name as messages quote it. */
export function shown(name: ByteName): string {
  return JSON.stringify(Buffer.from(name, 'latin1').toString('utf8'));
}

function tooLong(path: ByteName): never {
  throw new EifError('too-large', `A name in the image is too long: ${shown(path.slice(0, 80))}…`, {
    expected: `at most ${MAX_PATH} bytes, ${MAX_NAME} for each part`,
    found: `${path.length} bytes`,
  });
}

function tooDeep(path: ByteName): never {
  throw new EifError('too-large', `${shown(path)} lies too deep in folders`, {
    expected: `at most ${MAX_DEPTH} folders`,
  });
}

function bad(message: string): never {
  throw new EifError('bad-image', message);
}
