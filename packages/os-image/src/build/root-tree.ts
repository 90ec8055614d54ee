import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { utf8Text } from '@dstack-cloud/encoding';
import { OsImageError } from '../errors.ts';
import { DEV_STARTED_UNITS, EXTRA_USERS, MASKED_UNITS, STARTED_UNITS } from '../recipe/recipe.ts';
import { addFolder } from '../tree/add-folder.ts';
import type { Content, FileTree } from '../tree/file-tree.ts';
import { SystemUsers } from '../tree/system-users.ts';
import type { Flavour } from './command-line.ts';

/** What the maintainer scripts of packages would have done, and our own settings and units. */
export async function configureRoot(tree: FileTree, recipe: string, flavour: Flavour): Promise<void> {
  await users(tree);
  await addCertificates(tree);
  programs(tree);
  for (const path of ['/etc/machine-id', '/etc/fstab']) tree.file(path, '');
  tree.symlink('/etc/resolv.conf', '../run/systemd/resolve/stub-resolv.conf');
  tree.symlink('/etc/localtime', '../usr/share/zoneinfo/UTC');
  tree.file('/etc/hostname', 'dstack\n');
  tree.file('/etc/hosts', '127.0.0.1 localhost dstack\n::1 localhost\n');
  for (const path of [
    '/dstack',
    '/proc',
    '/sys',
    '/dev',
    '/run',
    '/tmp',
    '/mnt',
    '/srv',
    '/etc/systemd/system',
    '/lib/modules',
  ])
    if (tree.get(path) === undefined) tree.directory(path);
  // Compose files mount /var/run/dstack.sock, and it must be the socket, not a folder that the engine makes there.
  for (const [path, target] of [
    ['/var/run', '/run'],
    ['/var/lock', '/run/lock'],
  ] as const) {
    tree.remove(path);
    tree.symlink(path, target);
  }
  units(tree);
  await addFolder(filePath(recipe, 'root'), tree);
  await addFolder(filePath(recipe, `root-${flavour}`), tree);
  startedUnits(tree, STARTED_UNITS);
  if (flavour === 'dev') startedUnits(tree, DEV_STARTED_UNITS);
}

async function users(tree: FileTree): Promise<void> {
  const text = async (path: string) => utf8Text(await bytesOf(tree, path));
  const master = '/usr/share/base-passwd';
  const all = new SystemUsers(await text(`${master}/passwd.master`), await text(`${master}/group.master`));
  for (const path of tree.list('/usr/lib/sysusers.d')) all.add(await text(path));
  all.add(EXTRA_USERS);
  const { passwd, group, shadow, gshadow } = all.files();
  tree.file('/etc/passwd', passwd);
  tree.file('/etc/group', group);
  tree.file('/etc/shadow', shadow, 0o600);
  tree.file('/etc/gshadow', gshadow, 0o600);
}

/** The bundle that programs of Go and OpenSSL read: Mozilla's roots, one after the other. */
export async function addCertificates(tree: FileTree): Promise<void> {
  const folder = '/usr/share/ca-certificates/mozilla';
  const parts: string[] = [];
  for (const path of tree.list(folder)) parts.push(utf8Text(await bytesOf(tree, path)).trimEnd());
  tree.file('/etc/ssl/certs/ca-certificates.crt', `${parts.join('\n')}\n`);
}

/** Names that Debian's alternatives system would choose. */
function programs(tree: FileTree): void {
  for (const name of [
    'iptables',
    'iptables-save',
    'iptables-restore',
    'ip6tables',
    'ip6tables-save',
    'ip6tables-restore',
  ])
    tree.symlink(`/usr/sbin/${name}`, 'xtables-nft-multi');
  tree.symlink('/usr/bin/awk', 'busybox');
  tree.symlink('/usr/bin/sh', 'dash');
}

function units(tree: FileTree): void {
  tree.removeWhere((path) => /^\/(usr\/lib|etc)\/systemd\/system\/[^/]*\.(wants|requires)$/.test(path));
  tree.removeWhere((path) => /^\/usr\/lib\/systemd\/(system|user)-(environment-)?generators$/.test(path));
  for (const name of MASKED_UNITS) tree.symlink(`/etc/systemd/system/${name}`, '/dev/null');
  tree.symlink('/etc/systemd/system/default.target', '/usr/lib/systemd/system/multi-user.target');
}

function startedUnits(tree: FileTree, started: Readonly<Record<string, readonly string[]>>): void {
  for (const [target, names] of Object.entries(started)) {
    for (const name of names) {
      const at = [`/etc/systemd/system/${name}`, `/usr/lib/systemd/system/${name}`].find((path) =>
        tree.get(path),
      );
      if (at === undefined)
        throw new OsImageError('bad-recipe', `The unit ${name} is to be started and is not in the image`);
      tree.symlink(`/etc/systemd/system/${target}.wants/${name}`, at);
    }
  }
}

/** Content of a file of the tree; links are followed. */
export async function bytesOf(tree: FileTree, path: string): Promise<Uint8Array> {
  const entry = tree.target(path);
  if (entry?.kind !== 'file') throw new OsImageError('bad-recipe', `${path} is not in the image`);
  return await readContent(entry.content);
}

export async function readContent(content: Content): Promise<Uint8Array> {
  return content instanceof Uint8Array ? content : await readFile(content.file);
}

/** Path of a file of this package's `files` folder. */
export function filePath(recipe: string, ...parts: string[]): string {
  return join(recipe, 'files', ...parts);
}
