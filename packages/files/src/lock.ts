import { randomBytes } from 'node:crypto';
import { closeSync, lstatSync, openSync, readdirSync, rmSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FilesError } from './errors.ts';
import { HOLDER_TAG, holderLives, holderTag } from './holder.ts';
import { requireOwnDirectory } from './own-directory.ts';
import type { ProcessIdentity } from './process-identity.ts';

export interface LockOptions {
  /** How long to wait for the holder; 0 to refuse at once. */
  readonly waitMs: number;
  /** What is locked, for the message: `The machine web`. */
  readonly what: string;
  readonly signal?: AbortSignal;
  /** On a full or read-only disk, where nothing can be locked, work all the same unless somebody holds the lock. */
  readonly evenWhenFull?: boolean;
}

const MIN_PAUSE_MS = 5;
const MAX_PAUSE_MS = 40;
const TOUCH_MS = 10_000;
/** A ticket of a process that cannot be seen (another container's) counts as left behind after this long untouched. */
const UNSEEN_STALE_MS = 60_000;
const FULL = new Set(['ENOSPC', 'EDQUOT', 'EROFS']);

/**
 * Runs `body` while no other process, and no other part of this one, holds the lock `name` of a folder of ours.
 *
 * Who wants the lock puts a ticket into the folder and then looks for others': of two, the later to look sees the other
 * and steps back for a moment. A ticket is an empty file whose name says which process made it. So there is never a
 * half-written one, and one of a killed process is removed without a race: no other ticket has its name.
 *
 * @throws FilesError `locked` when another holds it too long, `not-ours`; the file system's error when it is not there
 */
export async function withLock<T>(
  folder: string,
  name: string,
  options: LockOptions,
  body: () => Promise<T>,
): Promise<T> {
  requireOwnDirectory(folder);
  const ticket = await acquire(folder, name, options);
  const touch = setInterval(() => {
    if (ticket !== undefined) touchTicket(ticket);
  }, TOUCH_MS).unref();
  try {
    return await body();
  } finally {
    clearInterval(touch);
    if (ticket !== undefined) rmSync(ticket, { force: true });
  }
}

/** The process of this container that holds a lock now; undefined when there is none. */
export function lockHolder(folder: string, name: string): ProcessIdentity | undefined {
  for (const entry of readdirSync(folder)) {
    const tag = tagOf(entry, name);
    if (tag === undefined || holderLives(tag) !== true) continue;
    const [pid, start_time = ''] = tag.split('-');
    return { pid: Number(pid), start_time };
  }
  return undefined;
}

async function acquire(folder: string, name: string, options: LockOptions): Promise<string | undefined> {
  const deadline = performance.now() + options.waitMs;
  for (;;) {
    options.signal?.throwIfAborted();
    let holder = holderOf(folder, name, undefined);
    if (holder === undefined) {
      const own = `.${name}.${holderTag()}-${randomBytes(8).toString('hex')}.lock`;
      if (!makeTicket(join(folder, own), options)) return undefined;
      holder = holderOf(folder, name, own);
      if (holder === undefined) return join(folder, own);
      rmSync(join(folder, own), { force: true });
    }
    if (performance.now() >= deadline) throw locked(folder, name, holder, options);
    const pause = MIN_PAUSE_MS + Math.random() * (MAX_PAUSE_MS - MIN_PAUSE_MS);
    await sleep(pause, undefined, options.signal === undefined ? {} : { signal: options.signal });
  }
}

/** The ticket of somebody else who lives; those of the dead are removed. */
function holderOf(folder: string, name: string, own: string | undefined): string | undefined {
  for (const entry of readdirSync(folder)) {
    const tag = tagOf(entry, name);
    if (tag === undefined || entry === own) continue;
    const path = join(folder, entry);
    if (holderLives(tag) ?? isTouched(path)) return entry;
    rmSync(path, { force: true });
  }
  return undefined;
}

const TICKET = new RegExp(`^(${HOLDER_TAG})-[0-9a-f]{16}\\.lock$`);

function tagOf(entry: string, name: string): string | undefined {
  return entry.startsWith(`.${name}.`) ? TICKET.exec(entry.slice(name.length + 2))?.[1] : undefined;
}

function makeTicket(path: string, { evenWhenFull }: LockOptions): boolean {
  try {
    closeSync(openSync(path, 'wx', 0o600));
    return true;
  } catch (error) {
    if (evenWhenFull && FULL.has((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw error;
  }
}

function touchTicket(path: string): void {
  const now = new Date();
  try {
    utimesSync(path, now, now);
  } catch {
    // Only who cannot see this process looks at the time.
  }
}

function isTouched(path: string): boolean {
  const status = lstatSync(path, { throwIfNoEntry: false });
  return status !== undefined && Math.abs(Date.now() - status.mtimeMs) < UNSEEN_STALE_MS;
}

function locked(folder: string, name: string, holder: string, { what }: LockOptions): FilesError {
  const pid = tagOf(holder, name)?.split('-')[0];
  return new FilesError(
    'locked',
    `${what} is being worked on by process ${pid}: try again when it has ended (${join(folder, holder)})`,
    { expected: 'nobody else', found: `process ${pid}` },
  );
}
