/**
 * Ends what a test runs as a kill would, at a chosen change of the file system: from there on nothing of it happens any more.
 * Or fills the disk at one: from there on nothing can be added, and what is there can still be renamed and removed.
 * A test file begins with
 * `vi.mock('node:fs/promises', async (load) => (await import('@dstack-cloud/test/crash-points')).watchFiles(await load()))`.
 */
import type promises from 'node:fs/promises';

type Files = typeof promises;

const CHANGES = ['open', 'rename', 'rm', 'mkdir', 'unlink', 'writeFile', 'link', 'chmod'] as const;

/** Those that need room. */
const ADDS: ReadonlySet<string> = new Set(['open', 'mkdir', 'writeFile', 'link']);

let killAt = 0;
let fullAt = 0;
let refused = 0;
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
          await step(name);
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

/** Runs something whose disk is full from its change number `at` on. How many changes were refused, and its error. */
export async function diskFullAt(
  at: number,
  work: () => Promise<unknown>,
): Promise<{ readonly refused: number; readonly error: unknown }> {
  fullAt = at;
  refused = 0;
  count = 0;
  try {
    await work();
    return { refused, error: undefined };
  } catch (error) {
    return { refused, error };
  } finally {
    fullAt = 0;
  }
}

async function step(name: string): Promise<void> {
  count += 1;
  if (fullAt > 0 && count >= fullAt && ADDS.has(name)) {
    refused += 1;
    throw Object.assign(new Error(`ENOSPC: no space left on device, ${name}`), { code: 'ENOSPC' });
  }
  if (killAt === 0 || count < killAt) return;
  killed();
  await new Promise(() => undefined);
}
