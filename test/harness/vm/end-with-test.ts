import type { ChildProcess } from 'node:child_process';
import { Guard } from '@dstack-cloud/vmm';

let guard: Guard | undefined;

/** A test whose time is over is killed with its process, which runs no hooks then: this program ends all the same. */
export function endWithTest(child: ChildProcess): void {
  const { pid } = child;
  if (pid === undefined) return;
  guard ??= new Guard();
  guard.watchProcess(pid);
  child.once('exit', () => guard?.forget(pid));
}
