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

/** What a caller is told of an error of the VMM: all of it, since callers are operators of this host. */
export function publicError(error: unknown): PublicError | undefined {
  if (!(error instanceof VmmError)) return undefined;
  const { code, message, expected, found } = error;
  const details = [
    ...(expected === undefined || message.includes(expected) ? [] : [`expected ${expected}`]),
    ...(found === undefined || message.includes(found) ? [] : [`found ${found}`]),
  ].join(', ');
  return {
    text: details === '' ? message : `${message} (${details})`,
    code: PASSING.includes(code) ? 'UNAVAILABLE' : 'INVALID_ARGUMENT',
    status: 400,
  };
}
