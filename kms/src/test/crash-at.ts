import { type KeyFileSystem, nodeFileSystem } from '../key-directory/file-system.ts';

/** A file system that stops for ever at its n-th operation, before or after it: what is on disk then is what a crash leaves. */
export function dyingFileSystem(
  at: number,
  when: 'before' | 'after',
): { fs: KeyFileSystem; operations: () => number } {
  let operations = 0;
  let isDead = false;
  async function step<T>(run: () => Promise<T>): Promise<T> {
    if (isDead) throw new Error('crashed');
    operations += 1;
    const dies = operations === at;
    if (dies && when === 'before') isDead = true;
    if (isDead) throw new Error('crashed');
    const result = await run();
    if (!dies) return result;
    isDead = true;
    // The kernel closes what a dead process had open.
    if (isFile(result)) await result.close();
    throw new Error('crashed');
  }
  const wrap = (target: object): unknown =>
    new Proxy(target, {
      get: (object, name) => {
        const value: unknown = Reflect.get(object, name);
        if (typeof value !== 'function') return value;
        if (name === 'close') return value.bind(object);
        return (...args: unknown[]) =>
          step(async () => {
            const result: unknown = await (value as (...all: unknown[]) => unknown).apply(object, args);
            return isFile(result) ? wrap(result) : result;
          });
      },
    });
  return { fs: wrap(nodeFileSystem) as KeyFileSystem, operations: () => operations };
}

function isFile(value: unknown): value is { close(): Promise<void> } {
  return typeof value === 'object' && value !== null && 'writeFile' in value;
}
