import { mkdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** A lock that nobody touched for this long belongs to a build that was killed. */
const STALE_MS = 30_000;
const WAIT_MS = 120_000;

/** Runs `work` while holding `<directory>/.build-lock` (a directory: making one is atomic everywhere). */
export async function withBuildLock<T>(directory: string, work: () => Promise<T>): Promise<T> {
  const lock = join(directory, '.build-lock');
  await acquire(lock);
  const heartbeat = setInterval(() => {
    const now = new Date();
    utimes(lock, now, now).catch(() => undefined);
  }, STALE_MS / 6);
  try {
    return await work();
  } finally {
    clearInterval(heartbeat);
    await rm(lock, { recursive: true, force: true });
  }
}

async function acquire(lock: string): Promise<void> {
  const deadline = Date.now() + WAIT_MS;
  for (;;) {
    try {
      await mkdir(lock);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const age = await stat(lock).then(
      (info) => Date.now() - info.mtimeMs,
      () => 0,
    );
    if (age > STALE_MS) await rm(lock, { recursive: true, force: true });
    else if (Date.now() > deadline)
      throw new Error(`Another build holds ${lock}; remove it if none is running`);
    else await sleep(100);
  }
}
