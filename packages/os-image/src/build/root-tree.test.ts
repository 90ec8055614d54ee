import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { DEV_STARTED_UNITS, MASKED_UNITS, STARTED_UNITS } from '../recipe/recipe.ts';
import { FileTree } from '../tree/file-tree.ts';
import type { Flavour } from './command-line.ts';
import { configureRoot } from './root-tree.ts';

const recipe = join(dirname(fileURLToPath(import.meta.url)), '../..');
const UNITS = '/usr/lib/systemd/system';

/** What packages bring, as far as it is looked at, and some of what is taken out again. */
async function configured(flavour: Flavour): Promise<FileTree> {
  const tree = new FileTree();
  tree.file('/usr/share/base-passwd/passwd.master', 'root::0:0:root:/root:/bin/bash\n');
  tree.file('/usr/share/base-passwd/group.master', 'root::0:\n');
  tree.directory('/var/run');
  tree.directory('/var/lock');
  for (const name of Object.values(STARTED_UNITS).flat()) tree.file(`${UNITS}/${name}`, '[Unit]\n');
  tree.symlink(`${UNITS}/multi-user.target.wants/getty.target`, '../getty.target');
  tree.symlink('/etc/systemd/system/sockets.target.wants/docker.socket', `${UNITS}/docker.socket`);
  tree.file('/usr/lib/systemd/system-generators/systemd-fstab-generator', '');
  await configureRoot(tree, recipe, flavour);
  return tree;
}

const link = (target: string) => expect.objectContaining({ kind: 'symlink', target });

it('/var/run is /run, so the socket that a compose file mounts from there is the agent’s', async () => {
  const tree = await configured('prod');
  expect(tree.get('/var/run')).toEqual(link('/run'));
  expect(tree.get('/var/lock')).toEqual(link('/run/lock'));
  expect(tree.get('/run')?.kind).toBe('directory');
});

it.each(['prod', 'dev'] as const)(
  'what starts by itself in a %s image is the list of the recipe',
  async (flavour) => {
    const tree = await configured(flavour);
    const paths = [...tree.entries()].map(([path]) => path);
    const started = paths.filter((path) => /\.(wants|requires)\/./.test(path));
    const lists = [STARTED_UNITS, ...(flavour === 'dev' ? [DEV_STARTED_UNITS] : [])];
    const expected = lists.flatMap((list) =>
      Object.entries(list).flatMap(([target, names]) =>
        names.map((name) => `/etc/systemd/system/${target}.wants/${name}`),
      ),
    );
    expect(started).toEqual(expected.sort());
    expect(
      paths.filter((path) => path.includes('generator') && !path.startsWith('/etc/systemd/system/')),
    ).toEqual([]);
    for (const name of MASKED_UNITS)
      expect([name, tree.get(`/etc/systemd/system/${name}`)]).toEqual([name, link('/dev/null')]);
  },
);

it('nobody can log in: no account has a password', async () => {
  const shadow = (await configured('prod')).get('/etc/shadow');
  expect(shadow).toMatchObject({ kind: 'file', mode: 0o600, uid: 0 });
  const { content } = shadow as { content: Uint8Array };
  for (const line of Buffer.from(content).toString().trim().split('\n'))
    expect(line.split(':')[1]).toMatch(/^[!*]+$/);
});
