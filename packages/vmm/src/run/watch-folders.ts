import { lstatSync } from 'node:fs';

const POLL_MS = 1_000;

/** Fires when one of the folders is no longer the one that it was: somebody removed it, or put another in its place. */
export function watchFolders(paths: readonly string[]): { readonly gone: AbortSignal; end(): void } {
  const controller = new AbortController();
  const before = paths.map(identityOf);
  const timer = setInterval(() => {
    const index = paths.findIndex((path, n) => isOther(identityOf(path), before[n]));
    if (index < 0) return;
    clearInterval(timer);
    controller.abort(new Error(`The folder ${paths[index]} was removed while the machine ran`));
  }, POLL_MS).unref();
  return { gone: controller.signal, end: () => clearInterval(timer) };
}

function identityOf(path: string): string {
  try {
    const { dev, ino } = lstatSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'none' : 'unknown';
  }
}

/** What cannot be looked at now may still be the same. */
function isOther(now: string, before: string | undefined): boolean {
  return now !== 'unknown' && now !== before;
}
