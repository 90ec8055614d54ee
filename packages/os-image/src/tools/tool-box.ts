import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { OsImageError } from '../errors.ts';
import { type RunOptions, runCommand } from './run-command.ts';

const LOADER = 'usr/lib64/ld-linux-x86-64.so.2';
const LIBRARIES = ['usr/lib/x86_64-linux-gnu', 'usr/libexec/gcc/x86_64-linux-gnu/14'];

/**
 * The programs that build an image, unpacked from locked packages and run with their own loader and libraries, so
 * that the machine that builds decides nothing about the bytes.
 */
export class ToolBox {
  /** Where the packages are unpacked. */
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** Unpacks the packages into a folder. Only `dpkg-deb` of the machine itself is used. */
  static async unpack(packages: readonly string[], root: string): Promise<ToolBox> {
    if (process.arch !== 'x64' || process.platform !== 'linux')
      throw new OsImageError('tool-missing', 'Images are built on Linux on x86-64; this is another machine');
    if (root.includes(':'))
      throw new OsImageError(
        'build-failed',
        `Images cannot be built below ${root}: its path has a colon, which separates folders of libraries; name another with --output`,
      );
    await mkdir(root, { recursive: true });
    for (const file of packages) await runCommand('dpkg-deb', ['-x', file, root]);
    return new ToolBox(root);
  }

  /** Runs a program of the box by its path below `/`, such as `usr/bin/sqfstar`; some do as the name says that they are called by. */
  async run(
    program: string,
    args: readonly string[],
    options: RunOptions = {},
    calledAs: string = program,
  ): Promise<string> {
    for (const needed of [LOADER, program])
      if (!(await isFile(join(this.folder, needed))))
        throw new OsImageError(
          'tool-missing',
          `No package among the tools of the lock has ${needed}, which this build needs; dstack-cloud image lock --update makes a lock that has all`,
          { expected: needed },
        );
    const libraries = LIBRARIES.map((folder) => join(this.folder, folder)).join(':');
    const loader = join(this.folder, LOADER);
    const env = { PATH: '/nonexistent', LC_ALL: 'C', TZ: 'UTC', HOME: '/nonexistent' };
    const all = ['--library-path', libraries, '--argv0', calledAs, join(this.folder, program), ...args];
    return await runCommand(loader, all, { env, ...options });
  }
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
