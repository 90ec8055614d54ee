import { basename, dirname, resolve as resolvePath } from 'node:path';
import { FilesError, withLock } from '@dstack-cloud/files';
import { AttestationError } from '../../errors.ts';

const WAIT_MS = 60_000;

/**
 * Runs `body` while no other program works on the same log. The lock lies in the log's own folder, where nobody else can
 * take or hold it, and is free as soon as its holder ends, however it ends.
 * @throws AttestationError `device` when another program keeps it for a minute, or when the folder is not ours alone
 */
export function withLogLock<T>(path: string, body: () => Promise<T>): Promise<T> {
  const key = resolvePath(path);
  // Within this process in order of arrival; only the first of each process asks for the file.
  const turn = (queues.get(key) ?? Promise.resolve()).then(() => locked(key, body));
  queues.set(
    key,
    turn.catch(() => undefined),
  );
  return turn;
}

const queues = new Map<string, Promise<unknown>>();

async function locked<T>(path: string, body: () => Promise<T>): Promise<T> {
  // On a full disk nothing is extended either (the marker could not be made), so what is read then stands still.
  const options = { waitMs: WAIT_MS, what: `The event log ${path}`, evenWhenFull: true };
  try {
    return await withLock(dirname(path), basename(path), options, body);
  } catch (cause) {
    if (!(cause instanceof FilesError)) throw cause;
    throw new AttestationError('device', cause.message, { cause });
  }
}
