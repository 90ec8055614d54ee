/** Another commit of this repository beside the working tree, with what it needs to run. */
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { repository } from '../../harness/run-command.ts';

const run = promisify(execFile);
const INSTALL_TIMEOUT_MS = 600_000;

export type Checkout = { readonly directory: string; readonly commit: string; remove(): Promise<void> };

/** @throws Error when there is no such commit, or its packages cannot be installed */
export async function checkOut(name: string): Promise<Checkout> {
  const commit = await git('rev-parse', '--verify', '--end-of-options', `${name}^{commit}`).catch(() => {
    throw new Error(`--against ${name}: no such commit`);
  });
  const directory = await mkdtemp(join(tmpdir(), 'dstack-bench-against-'));
  const remove = async (): Promise<void> => {
    await git('worktree', 'remove', '--force', directory).catch(() => undefined);
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await git('worktree', 'add', '--detach', '--force', directory, commit);
    if (await hasSameLock(directory)) await copyPackages(directory);
    else await run('npm', ['ci', '--prefer-offline', '--no-audit', '--no-fund'], installIn(directory));
    return { directory, commit: commit.slice(0, 12), remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

const installIn = (cwd: string) => ({ cwd, timeout: INSTALL_TIMEOUT_MS, maxBuffer: 16 * 2 ** 20 });

async function git(...args: string[]): Promise<string> {
  return (await run('git', args, { cwd: repository })).stdout.trim();
}

async function hasSameLock(directory: string): Promise<boolean> {
  const [theirs, ours] = await Promise.all(
    [directory, repository].map((place) => readFile(join(place, 'package-lock.json'))),
  );
  return theirs!.equals(ours!);
}

/** Links to the workspaces are relative, so that the copies lead to those of the checkout. */
async function copyPackages(directory: string): Promise<void> {
  const workspaces = ['packages', '.'];
  const places = ['.'];
  for (const parent of workspaces) {
    for (const entry of await readdir(join(repository, parent), { withFileTypes: true })) {
      if (entry.isDirectory() && entry.name !== 'node_modules') places.push(join(parent, entry.name));
    }
  }
  for (const place of places) {
    const from = join(repository, place, 'node_modules');
    const isThere = await stat(from).then(
      () => true,
      () => false,
    );
    if (isThere)
      await cp(from, join(directory, place, 'node_modules'), { recursive: true, verbatimSymlinks: true });
  }
}
