import { spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { makeOwnDirectory, openOwnFile } from '@dstack-cloud/files';
import { MACHINE_MARK } from '../programs/machine-processes.ts';
import { resolveProgram } from '../programs/programs.ts';

/** A supervisor that was started from here. */
export interface SpawnedSupervisor {
  readonly pid: number;
  exited(): boolean;
  /** Lets it begin; it ends without having done anything when this process dies before. */
  begin(): void;
}

/**
 * Starts the supervisor of the machine in `dir`, in a session of its own. It waits until it is told to begin: by then it is
 * on record, so that a kill in between leaves none that nobody knows.
 */
export function spawnSupervisor(dir: string): SpawnedSupervisor {
  const [program, ...args] = resolveProgram('dstack-vmm') as [string, ...string[]];
  makeOwnDirectory(join(dir, 'logs'));
  const log = openOwnFile(join(dir, 'logs/supervisor.log'), 'append');
  const { [MACHINE_MARK]: _outer, ...env } = process.env;
  const child = spawn(program, [...args, 'supervise', dir, '--when-told'], {
    cwd: dir,
    // Not a process of the machine in which this may run itself.
    env,
    detached: true,
    stdio: ['pipe', log, log],
  });
  closeSync(log);
  let gone = false;
  child.once('exit', () => {
    gone = true;
  });
  child.once('error', () => {
    gone = true;
  });
  child.unref();
  // It may be gone already.
  child.stdin?.on('error', () => undefined);
  return { pid: child.pid ?? -1, exited: () => gone, begin: () => void child.stdin?.end('begin') };
}
