import { join } from 'node:path';
import { addPrograms } from '../build/add-programs.ts';
import { addCertificates } from '../build/root-tree.ts';
import { FileTree } from '../tree/file-tree.ts';
import { CONTAINER_USER } from './container-recipe.ts';

/**
 * Adds what every container has beside files of packages: users, certificates, name resolution and a folder for data.
 * The folder belongs to the service's user, so that a volume that is mounted there does too.
 */
export async function configureContainer(tree: FileTree): Promise<void> {
  const { name, id, home } = CONTAINER_USER;
  for (const [path, target] of [
    ['/lib', 'usr/lib'],
    ['/lib64', 'usr/lib64'],
  ] as const)
    if (tree.get(path) === undefined) tree.symlink(path, target);
  tree.file('/etc/passwd', `root:x:0:0:root:/:/nonexistent\n${name}:x:${id}:${id}::${home}:/nonexistent\n`);
  tree.file('/etc/group', `root:x:0:\n${name}:x:${id}:\n`);
  tree.file('/etc/nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files dns\n');
  await addCertificates(tree);
  // The bundle has them all.
  tree.remove('/usr/share/ca-certificates');
  for (const path of ['/dev', '/proc', '/sys', '/run']) tree.directory(path);
  tree.symlink('/var/run', '../run');
  tree.directory('/tmp', 0o1777);
  tree.set(home, { kind: 'directory', mode: 0o750, uid: id, gid: id });
}

/** The tree of the layer that has a service's program. */
export async function programTree(programs: string, program: string): Promise<FileTree> {
  const tree = new FileTree();
  await addPrograms(join(programs, program), tree);
  return tree;
}
