import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms, findProgram } from '@dstack-cloud/test/requires';
import { expect, it } from 'vitest';
import { readLock } from '../lock/image-lock.ts';
import { isDropped } from '../recipe/recipe.ts';
import { addPackages } from '../tree/add-packages.ts';
import { FileTree } from '../tree/file-tree.ts';
import { requireLibraries } from './require-libraries.ts';

const LIBRARIES = '/usr/lib/x86_64-linux-gnu';
const LOADER = '/lib64/ld-linux-x86-64.so.2';

const shell = readFileSync(realpathSync('/bin/sh'));

it.skipIf(!existsSync(LOADER))(
  'a program without its library is named with it, and so is the loader',
  async () => {
    const tree = new FileTree();
    tree.file('/usr/bin/sh', shell, 0o755);
    await expect(requireLibraries([tree], 'root file system')).rejects.toMatchObject({
      code: 'bad-recipe',
      message: expect.stringMatching(
        /The root file system has programs that cannot start: \/usr\/bin\/sh needs \/lib64\/ld-linux-x86-64\.so\.2; .*\/usr\/bin\/sh needs libc\.so\.6.*\. Add the package/,
      ),
    });
    // Of another layer, below a link.
    const base = new FileTree();
    base.symlink('/lib64', 'usr/lib64');
    base.file(LOADER, '');
    base.file(`${LIBRARIES}/libc-2.so`, '');
    base.symlink(`${LIBRARIES}/libc.so.6`, 'libc-2.so');
    await expect(requireLibraries([base, tree], 'image')).resolves.toBeUndefined();
    // A link that leads nowhere is no library.
    base.remove(`${LIBRARIES}/libc-2.so`);
    await expect(requireLibraries([base, tree], 'image')).rejects.toThrow(/needs libc\.so\.6/);
  },
);

it('files that are no programs need nothing', async () => {
  const tree = new FileTree();
  tree.file('/usr/bin/script', '#!/bin/sh\n', 0o755);
  tree.file('/usr/lib/modules/x.ko.xz', Uint8Array.from([0x7f, 0x45, 0x4c, 0x46]));
  tree.file('/etc/empty', '');
  await expect(requireLibraries([tree], 'image')).resolves.toBeUndefined();
});

const lockFile = new URL('../../lock.json', import.meta.url).pathname;
const cache = join(homedir(), '.cache/dstack-cloud/image/packages');
const lock = await readLock(lockFile);
const packages = lock.image.map(({ name, sha256 }) => ({ name, file: join(cache, `${sha256}.deb`) }));
const isCached = packages.every(({ file }) => existsSync(file));

describeWithPrograms('the locked packages', ['dpkg-deb'], () => {
  it.skipIf(!isCached || findProgram('dpkg-deb') === undefined)(
    'bring every library that a program of the image needs',
    async () => {
      const work = mkdtempSync(join(tmpdir(), 'libraries-'));
      try {
        const tree = new FileTree();
        await addPackages(packages, tree, { blobs: work, wanted: (path) => !isDropped(path) });
        await requireLibraries([tree], 'root file system');
      } finally {
        rmSync(work, { recursive: true });
      }
    },
    300_000,
  );
});
