/** In the place of `node:fs/promises`: counts operations, and at the n-th one ends the process or finds the disk full. */
import { promises as real } from 'node:fs';

type Call = (...args: unknown[]) => Promise<unknown>;

export const plan: { at: number; how: 'kill' | 'full'; operations: number } = {
  at: 0,
  how: 'kill',
  operations: 0,
};

/** @param writes whether a full disk can be found by it */
function counted(call: unknown, writes: boolean): Call {
  return async (...args) => {
    if (writes || plan.how === 'kill') {
      plan.operations += 1;
      if (plan.operations === plan.at) {
        if (plan.how === 'kill') process.kill(process.pid, 'SIGKILL');
        throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
      }
    }
    return (call as Call)(...args);
  };
}

export const lstat: Call = counted(real.lstat, false);
export const mkdir: Call = counted(real.mkdir, true);
export const readdir: Call = counted(real.readdir, false);
export const readFile: Call = counted(real.readFile, false);
export const rename: Call = counted(real.rename, true);
export const rm: Call = counted(real.rm, false);
export const unlink: Call = counted(real.unlink, false);

const counting = counted(real.open, true);
export const open: Call = async (...args) => {
  const file = (await counting(...args)) as object;
  return new Proxy(file, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      const method = value.bind(target) as Call;
      // A file that cannot be closed would stay open in the test.
      return name === 'close' ? method : counted(method, true);
    },
  });
};
