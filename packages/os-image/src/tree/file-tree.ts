import { utf8 } from '@dstack-cloud/encoding';
import { OsImageError } from '../errors.ts';

/** Bytes in memory, or a part of a file on disk. */
export type Content = Uint8Array | { readonly file: string; readonly size: number };

export type Entry = {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Package that it is from; not part of the image. */
  readonly origin?: string;
} & (
  | { readonly kind: 'directory' }
  | { readonly kind: 'file'; readonly content: Content }
  | { readonly kind: 'symlink'; readonly target: string }
);

const MAX_LINKS = 16;

/**
 * The files of a root file system before they become an image: paths are absolute, owners are numbers, nothing of the
 * building machine (its users, times, umask) can get in.
 */
export class FileTree {
  readonly #entries = new Map<string, Entry>([['/', { kind: 'directory', mode: 0o755, uid: 0, gid: 0 }]]);

  /** Entries by path, parents before their children. */
  *entries(): IterableIterator<[string, Entry]> {
    for (const path of [...this.#entries.keys()].sort()) yield [path, this.#entries.get(path)!];
  }

  get(path: string): Entry | undefined {
    return this.#entries.get(this.resolve(path));
  }

  /** The entry that a path leads to, when it is a link. */
  target(path: string): Entry | undefined {
    return this.#entries.get(this.#follow(this.resolve(path)));
  }

  /**
   * Puts an entry at a path, below the directories that links in the path lead to (`/lib64` of a merged `/usr`). A
   * directory that is there keeps its links; anything else is replaced. Missing parents are made.
   */
  set(path: string, entry: Entry): void {
    const at = this.resolve(path);
    const known = this.#entries.get(at);
    if (entry.kind === 'directory' && known?.kind === 'symlink' && this.target(at)?.kind === 'directory')
      return;
    if (known?.kind === 'directory' && entry.kind !== 'directory') {
      if (this.#children(at).length > 0)
        throw new OsImageError(
          'bad-recipe',
          `${path} is a directory with files in it, and a ${entry.kind} was put there`,
        );
    }
    this.#makeParents(at);
    this.#entries.set(at, entry);
  }

  /** A file of root, 0644 unless said otherwise. */
  file(path: string, content: Content | string, mode = 0o644, origin?: string): void {
    this.set(path, {
      kind: 'file',
      content: typeof content === 'string' ? utf8(content) : content,
      mode,
      uid: 0,
      gid: 0,
      ...(origin === undefined ? {} : { origin }),
    });
  }

  symlink(path: string, target: string): void {
    this.set(path, { kind: 'symlink', target, mode: 0o777, uid: 0, gid: 0 });
  }

  directory(path: string, mode = 0o755): void {
    this.set(path, { kind: 'directory', mode, uid: 0, gid: 0 });
  }

  /** Bytes of the files from each package. */
  sizes(): Map<string, number> {
    const sizes = new Map<string, number>();
    for (const entry of this.#entries.values()) {
      if (entry.kind !== 'file' || entry.origin === undefined) continue;
      sizes.set(entry.origin, (sizes.get(entry.origin) ?? 0) + contentSize(entry.content));
    }
    return sizes;
  }

  /** Removes an entry and all below it; `false` when there was none. */
  remove(path: string): boolean {
    const at = this.resolve(path);
    for (const child of this.#children(at)) this.#entries.delete(child);
    return this.#entries.delete(at);
  }

  /** Removes every entry whose path the test accepts, with all below it. */
  removeWhere(test: (path: string) => boolean): void {
    for (const path of [...this.#entries.keys()])
      if (path !== '/' && this.#entries.has(path) && test(path)) this.remove(path);
  }

  /** Paths directly in a directory. */
  list(path: string): string[] {
    const at = this.resolve(path);
    const prefix = at === '/' ? '/' : `${at}/`;
    return [...this.#entries.keys()]
      .filter((one) => one !== '/' && one.startsWith(prefix) && !one.slice(prefix.length).includes('/'))
      .sort();
  }

  /** The path with links in its directories followed; the last part is left as it is. */
  resolve(path: string): string {
    if (!path.startsWith('/') || path.includes('\0') || path.split('/').includes('..'))
      throw new OsImageError('bad-recipe', `${JSON.stringify(path)} cannot be a path of an image`);
    let at = '';
    const parts = path.split('/').filter((part) => part !== '' && part !== '.');
    for (const [index, part] of parts.entries()) {
      at = `${at}/${part}`;
      if (index < parts.length - 1) at = this.#follow(at);
      if (at === '/') at = '';
    }
    return at === '' ? '/' : at;
  }

  #follow(path: string): string {
    let at = path;
    for (let i = 0; i < MAX_LINKS; i++) {
      const entry = this.#entries.get(at);
      if (entry?.kind !== 'symlink') return at;
      const base = entry.target.startsWith('/')
        ? entry.target
        : `${at.slice(0, at.lastIndexOf('/'))}/${entry.target}`;
      at = this.resolve(normalize(base));
    }
    throw new OsImageError('bad-recipe', `${path} is a link that leads to itself`);
  }

  #makeParents(path: string): void {
    for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) {
      const parent = path.slice(0, at);
      const known = this.#entries.get(parent);
      if (known?.kind === 'directory') return;
      if (known !== undefined)
        throw new OsImageError('bad-recipe', `${parent} is a file, and ${path} would be in it`);
      this.#entries.set(parent, { kind: 'directory', mode: 0o755, uid: 0, gid: 0 });
    }
  }

  #children(path: string): string[] {
    const prefix = path === '/' ? '/' : `${path}/`;
    return [...this.#entries.keys()].filter((one) => one !== '/' && one.startsWith(prefix));
  }
}

/** Size in bytes. */
export function contentSize(content: Content): number {
  return content instanceof Uint8Array ? content.length : content.size;
}

/** Removes `.` and `..` from an absolute path; `..` of the root is the root. */
function normalize(path: string): string {
  const out: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') out.pop();
    else if (part !== '' && part !== '.') out.push(part);
  }
  return `/${out.join('/')}`;
}
