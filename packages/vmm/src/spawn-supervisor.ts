import { spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { makeOwnDirectory, openOwnFile } from '@dstack-cloud/files';
import { MACHINE_MARK } from './machine-processes.ts';
import { resolveProgram } from './programs.ts';

/** A supervisor that was started from here. */
export interface SpawnedSupervisor {
  readonly pid: number;
  exited(): boolean;
}

/** Starts the supervisor of the machine in `dir`, in a session of its own. */
export function spawnSupervisor(dir: string): SpawnedSupervisor {
  const [program, ...args] = resolveProgram('dstack-vmm') as [string, ...string[]];
  makeOwnDirectory(join(dir, 'logs'));
  const log = openOwnFile(join(dir, 'logs/supervisor.log'), 'append');
  const { [MACHINE_MARK]: _outer, ...env } = process.env;
  const child = spawn(program, [...args, 'supervise', dir], {
    cwd: dir,
    // Not a process of the machine in which this may run itself.
    env,
    detached: true,
    stdio: ['ignore', log, log],
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
  return { pid: child.pid ?? -1, exited: () => gone };
}
