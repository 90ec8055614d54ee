import type { PublicError } from '@dstack-cloud/prpc';
import { VmmError, type VmmErrorCode } from '../../errors.ts';

/** Those of this host's state, which may be another one soon. */
const PASSING: readonly VmmErrorCode[] = [
  'locked',
  'no_resources',
  'no_space',
  'not_running',
  'port_in_use',
  'registry_failed',
];

/** What the host's file system refuses, and what to do about it. */
const HOST_TROUBLE: Readonly<Record<string, string>> = {
  ENOSPC:
    'There is no room left on the disk: free some space and repeat it; removed machines are in .trash of run_path for trash_ttl seconds',
  EDQUOT: 'The disk quota of this user is used up: free some space and repeat it',
  EROFS: 'The file system is read-only: see what the kernel says of its disk',
  EIO: 'The disk has failed: see what the kernel says of it',
  EACCES: 'The user of dstack-vmm may not do that to a file: see its owner and mode',
  EPERM: 'The user of dstack-vmm may not do that to a file: see its owner and mode',
  EMFILE: 'dstack-vmm has too many files open: raise its limit (ulimit -n) and repeat it',
  ENFILE: 'This host has too many files open: repeat it later',
};
const MAX_CAUSES = 5;

/** What a caller is told of an error of the VMM: all of it, since callers are operators of this host. */
export function publicError(error: unknown): PublicError | undefined {
  if (!(error instanceof VmmError)) return hostTrouble(error);
  const { code, message, expected, found } = error;
  const isSaid = (value: string): boolean =>
    message.includes(value) || message.includes(JSON.stringify(value).slice(1, -1));
  const details = [
    ...(expected === undefined || isSaid(expected) ? [] : [`expected ${expected}`]),
    ...(found === undefined || isSaid(found) ? [] : [`found ${found}`]),
  ].join(', ');
  return {
    text: details === '' ? message : `${message} (${details})`,
    code: PASSING.includes(code) ? 'UNAVAILABLE' : 'INVALID_ARGUMENT',
    status: 400,
  };
}

function hostTrouble(error: unknown): PublicError | undefined {
  let cause = error;
  for (let depth = 0; depth < MAX_CAUSES && cause instanceof Error; depth += 1) {
    const { code } = cause as NodeJS.ErrnoException;
    const text = code !== undefined && Object.hasOwn(HOST_TROUBLE, code) ? HOST_TROUBLE[code] : undefined;
    if (text !== undefined) return { text: `${text} (${cause.message})`, code: 'UNAVAILABLE', status: 400 };
    cause = cause.cause;
  }
  return undefined;
}
