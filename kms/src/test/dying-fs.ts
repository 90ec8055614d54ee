/** A key file system that counts its operations and ends its own process with SIGKILL at the n-th. */
import { type KeyFileSystem, nodeFileSystem } from '../key-directory/file-system.ts';

export function dyingFileSystem(at: number, when: string): { fs: KeyFileSystem; operations: () => number } {
  let operations = 0;

  async function step<T>(run: () => Promise<T>): Promise<T> {
    operations += 1;
    const now = operations === at;
    if (now && when === 'before') process.kill(process.pid, 'SIGKILL');
    try {
      return await run();
    } finally {
      if (now) process.kill(process.pid, 'SIGKILL');
    }
  }

  const fs = {
    mkdir: (...args: Parameters<typeof nodeFileSystem.mkdir>) => step(() => nodeFileSystem.mkdir(...args)),
    readdir: (path: string) => step(() => nodeFileSystem.readdir(path)),
    rename: (...args: Parameters<typeof nodeFileSystem.rename>) => step(() => nodeFileSystem.rename(...args)),
    rm: (...args: Parameters<typeof nodeFileSystem.rm>) => step(() => nodeFileSystem.rm(...args)),
    open: async (...args: Parameters<typeof nodeFileSystem.open>) => {
      const file = await step(() => nodeFileSystem.open(...args));
      return new Proxy(file, {
        get: (target, name) => {
          const value: unknown = Reflect.get(target, name);
          if (typeof value !== 'function') return value;
          return (...inner: unknown[]) => step(() => value.apply(target, inner) as Promise<unknown>);
        },
      });
    },
  } as unknown as KeyFileSystem;
  return { fs, operations: () => operations };
}
