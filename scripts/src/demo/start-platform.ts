import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { resolveProgram } from '@dstack-cloud/vmm';
import type { Cleanup } from './cleanup.ts';
import type { Workspace } from './workspace.ts';

export interface Platform {
  /** Collateral service of the simulated hardware, PCS v4 paths. */
  readonly pccsUrl: string;
  readonly rootPem: string;
}

const READY_TIMEOUT_MS = 15_000;

/** Draws the seed of the simulated hardware, starts its collateral service, and stores its root. */
export async function startPlatform(space: Workspace, cleanup: Cleanup): Promise<Platform> {
  await writeFile(space.seedFile, randomBytes(32), { mode: 0o600 });
  const [program, ...args] = resolveProgram('dstack-tee-simulator') as [string, ...string[]];
  const child = spawn(
    program,
    [...args, 'collateral', '--seed-file', space.seedFile, '--port', '0', '--exit-with-stdin'],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  if (child.pid !== undefined) space.guard.watchProcess(child.pid);
  cleanup.add(async () => {
    if (child.pid !== undefined) space.guard.forget(child.pid);
    child.kill('SIGTERM');
    if (child.exitCode === null && child.signalCode === null)
      await new Promise((resolve) => child.once('exit', resolve));
  });
  const ready = await readyLine(child);
  const { url, root_pem } = JSON.parse(ready) as { url: string; root_pem: string };
  await writeFile(space.rootFile, root_pem);
  return { pccsUrl: url, rootPem: root_pem };
}

async function readyLine(child: ChildProcess): Promise<string> {
  return await new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error('The collateral service did not start')),
      READY_TIMEOUT_MS,
    );
    timer.unref();
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`The collateral service ended with ${code}`)));
    if (child.stdout === null) return reject(new Error('The collateral service has no output'));
    createInterface({ input: child.stdout }).once('line', (line) => {
      clearTimeout(timer);
      resolve(line);
    });
  });
}
