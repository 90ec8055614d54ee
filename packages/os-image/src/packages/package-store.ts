import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { copyFile, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { OsImageError } from '../errors.ts';
import { AptRoot, type Mirror } from '../lock/apt-root.ts';
import type { ImageLock, LockedPackage } from '../lock/image-lock.ts';
import { runCommand } from '../tools/run-command.ts';
import { makeWorkFolder } from '../work-folder.ts';

export interface PackageStoreOptions {
  /** Folder that keeps downloads between builds. */
  readonly cache: string;
  /** Folder with the `.deb` files and the Node tarball of a release; asked before the mirror. */
  readonly given?: string;
  readonly mirror?: Mirror;
  readonly say?: (line: string) => void;
}

/**
 * The files that a lock names, each checked against its hash. Whatever is in the cache under a hash has that hash:
 * files come in by rename, after the check.
 */
export class PackageStore {
  readonly #options: PackageStoreOptions;
  readonly #lock: ImageLock;
  #apt: Promise<AptRoot> | undefined;

  constructor(lock: ImageLock, options: PackageStoreOptions) {
    this.#lock = lock;
    this.#options = options;
  }

  /** Paths of the files, in the order asked. @throws OsImageError `package-missing`, `package-differs` */
  async files(packages: readonly LockedPackage[]): Promise<string[]> {
    await this.#requireGiven();
    const folder = join(this.#options.cache, 'packages');
    await mkdir(folder, { recursive: true });
    const path = ({ sha256 }: LockedPackage): string => join(folder, `${sha256}.deb`);
    const missing: LockedPackage[] = [];
    for (const one of packages) if ((await sha256Of(path(one))) !== one.sha256) missing.push(one);
    if (missing.length > 0) {
      const work = await makeWorkFolder(this.#options.cache, 'fetch');
      try {
        await this.#fetch(missing, work);
        await this.#takeOver(missing, work, path);
      } finally {
        await rm(work, { recursive: true, force: true });
      }
    }
    for (let at = 0; at < packages.length; at += AT_ONCE)
      await Promise.all(packages.slice(at, at + AT_ONCE).map((one) => requireNamed(one, path(one))));
    return packages.map(path);
  }

  /** Path of the tarball of the locked Node. @throws OsImageError `package-missing`, `package-differs` */
  async nodeTarball(): Promise<string> {
    const { name, version, integrity } = this.#lock.node;
    const folder = join(this.#options.cache, 'packages');
    await mkdir(folder, { recursive: true });
    const file = `${name}-${version}.tgz`;
    const path = join(folder, file);
    const wanted = Buffer.from(integrity.slice('sha512-'.length), 'base64').toString('hex');
    if ((await hashOf(path, 'sha512')) === wanted) return path;
    await this.#intoCache(path, async (work) => {
      const given = this.#options.given;
      if (given !== undefined && (await readdir(given)).includes(file)) {
        await copyFile(join(given, file), join(work, file));
      } else {
        await runCommand('npm', ['pack', '--silent', `${name}@${version}`], { cwd: work }).catch((cause) => {
          throw new OsImageError('package-missing', `The npm registry does not serve ${name} ${version}`, {
            cause,
          });
        });
      }
      const found = await hashOf(join(work, file), 'sha512');
      if (found !== wanted) throw differs(`${name} ${version}`, wanted, found);
      return file;
    });
    return path;
  }

  /** Brings the files into a folder: from the folder that was given, else from the mirror. */
  async #fetch(packages: readonly LockedPackage[], work: string): Promise<void> {
    const given = await this.#givenFiles();
    const wanted = packages.filter(({ sha256 }) => !given.has(sha256));
    for (const { sha256 } of packages) {
      const file = given.get(sha256);
      if (file !== undefined) await copyFile(file, join(work, `${sha256}.deb`));
    }
    if (wanted.length === 0) return;
    this.#options.say?.(`Fetching ${wanted.length} packages of Debian ${this.#lock.suite}`);
    this.#apt ??= AptRoot.open(join(this.#options.cache, 'apt'), this.#lock.suite, this.#options.mirror);
    const apt = await this.#apt;
    // Together is fast; one by one, to learn which of them is not served any more.
    await apt.download(wanted, work).catch(async () => {
      for (const one of wanted) {
        await apt.download([one], work).catch((cause) => {
          throw new OsImageError(
            'package-missing',
            `The lock names ${one.name} ${one.version}, which the mirror does not serve (a mirror has only the newest ` +
              'versions); give a folder with the packages of this release (--packages DIR), or make a new lock ' +
              '(dstack-cloud image lock --update) and review what changed',
            { cause },
          );
        });
      }
    });
  }

  /** Moves the files whose content is right into the cache; none may be missing. */
  async #takeOver(
    packages: readonly LockedPackage[],
    work: string,
    path: (one: LockedPackage) => string,
  ): Promise<void> {
    const found = new Map<string, string>();
    for (const name of await readdir(work)) {
      const hash = await sha256Of(join(work, name));
      if (hash !== undefined) found.set(hash, join(work, name));
    }
    for (const one of packages) {
      const file = found.get(one.sha256);
      if (file === undefined)
        throw differs(`${one.name} ${one.version}`, one.sha256, foundAs(`${one.name}_`, found));
      await rename(file, path(one));
    }
  }

  async #intoCache(path: string, make: (work: string) => Promise<string>): Promise<void> {
    const work = await makeWorkFolder(this.#options.cache, 'fetch');
    try {
      await rename(join(work, await make(work)), path);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }

  /** Whoever names a folder wants it to be used, also where the cache has all of it. */
  async #requireGiven(): Promise<void> {
    const { given } = this.#options;
    if (given === undefined) return;
    const found = await stat(given).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    if (found?.isDirectory() !== true)
      throw new OsImageError(
        'package-missing',
        `There is no folder ${given}: --packages names one with .deb files`,
      );
  }

  async #givenFiles(): Promise<Map<string, string>> {
    const files = new Map<string, string>();
    const { given } = this.#options;
    if (given === undefined) return files;
    for (const name of await readdir(given)) {
      if (!name.endsWith('.deb')) continue;
      const hash = await sha256Of(join(given, name));
      if (hash !== undefined) files.set(hash, join(given, name));
    }
    return files;
  }
}

/** How many packages are looked into at a time. */
const AT_ONCE = 8;

/**
 * The hash alone decides what is built; what the lock, and after it the bill of materials, says of the file must be what the
 * package says of itself.
 *
 * @throws OsImageError `bad-lock`
 */
async function requireNamed(one: LockedPackage, path: string): Promise<void> {
  const { size } = await stat(path);
  const fields = await runCommand('dpkg-deb', ['--field', path, 'Package', 'Version']);
  const [, name = '?'] = /^Package: (.*)$/m.exec(fields) ?? [];
  const [, version = '?'] = /^Version: (.*)$/m.exec(fields) ?? [];
  const expected = `${one.name} ${one.version}, ${one.size} bytes`;
  const found = `${name} ${version}, ${size} bytes`;
  if (found === expected) return;
  throw new OsImageError(
    'bad-lock',
    `The lock says ${expected}; the package with this hash is ${found}. Make the lock again (dstack-cloud image lock --update)`,
    { expected, found },
  );
}

/** Hash of the file that came under a name; undefined when none did. */
function foundAs(start: string, found: ReadonlyMap<string, string>): string | undefined {
  return [...found].find(([, path]) => basename(path).startsWith(start))?.[0];
}

function differs(what: string, expected: string, found: string | undefined): OsImageError {
  const message =
    `${what} as it is served is not the file that the lock names: it is not used. Check the mirror, or give the ` +
    'packages of this release with --packages DIR';
  return new OsImageError('package-differs', message, {
    expected,
    ...(found === undefined ? {} : { found }),
  });
}

async function sha256Of(path: string): Promise<string | undefined> {
  return await hashOf(path, 'sha256');
}

/** Hex digest of a file; undefined when it does not exist. */
async function hashOf(path: string, algorithm: 'sha256' | 'sha512'): Promise<string | undefined> {
  const hash = createHash(algorithm);
  try {
    await pipeline(createReadStream(path), hash);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  return hash.digest('hex');
}
