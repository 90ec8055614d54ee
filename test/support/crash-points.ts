/**
 * Ends what a test runs as a kill would, at a chosen change of the file system: from there on nothing of it happens any more.
 * A test file begins with
 * `vi.mock('node:fs/promises', async (load) => (await import('@dstack-cloud/test/crash-points')).watchFiles(await load()))`.
 */
import type promises from 'node:fs/promises';

type Files = typeof promises;

const CHANGES = ['open', 'rename', 'rm', 'mkdir', 'unlink', 'writeFile', 'link', 'chmod'] as const;

let killAt = 0;
let count = 0;
let killed: () => void = () => undefined;

/** The same functions, whose changes are counted. */
export function watchFiles(real: Files): Files {
  const watched = CHANGES.map((name) => {
    const change = real[name] as (...args: readonly unknown[]) => unknown;
    return [
      name,
      async (...args: readonly unknown[]) => {
        // Opening a file to read it changes nothing.
        if (name !== 'open' || (args[1] !== undefined && args[1] !== 'r' && typeof args[1] === 'string'))
          await step();
        return await change(...args);
      },
    ];
  });
  return { ...real, ...Object.fromEntries(watched) };
}

/** Runs something that is killed at its change number `at`. False when it ended before. */
export async function killedAt(at: number, work: () => Promise<unknown>): Promise<boolean> {
  killAt = at;
  count = 0;
  const kill = new Promise<boolean>((resolve) => {
    killed = () => resolve(true);
  });
  try {
    return await Promise.race([kill, work().then(() => false)]);
  } finally {
    killAt = 0;
  }
}

/** How many changes there were since the last kill was asked for. */
export function changes(): number {
  return count;
}

async function step(): Promise<void> {
  count += 1;
  if (killAt === 0 || count < killAt) return;
  killed();
  await new Promise(() => undefined);
}
