import type { IncomingMessage } from 'node:http';
import { networkOf } from '../connections/network-of.ts';
import { TokenBuckets } from '../connections/token-buckets.ts';
import type { PlainResponse } from '../options.ts';

/** Wrong credentials that one network may show. */
export const LOGINS_PER_MINUTE = 10;
const LOGIN_BURST = 10;

/** What became of a login. */
type Login = 'right' | 'wrong' | 'limited';

export const TOO_MANY_LOGINS: PlainResponse = {
  status: 429,
  headers: { 'Retry-After': '6' },
  body: 'Too many failed logins; try again later\n',
};

/** Counts and limits failed logins. */
export type LoginGuard = {
  /** Checks a credential, unless the client's network has shown too many wrong ones. */
  check(request: Pick<IncomingMessage, 'socket'>, isRight: () => boolean | Promise<boolean>): Promise<Login>;
  /** A request came without any. */
  missing(): void;
};

/** @param failed told of each login that failed, and from which network (empty on a Unix socket) */
export function loginGuard(
  failed: (result: 'missing' | 'wrong' | 'limited', source: string) => void,
  now: () => number = () => performance.now(),
): LoginGuard {
  const wrong = new TokenBuckets(LOGINS_PER_MINUTE, LOGIN_BURST, now);
  return {
    async check({ socket }, isRight) {
      const source = networkOf(socket.remoteAddress ?? '');
      // Taken before, so that many at once count as well.
      if (!wrong.take(source)) {
        failed('limited', source);
        return 'limited';
      }
      if (await isRight()) {
        wrong.give(source);
        return 'right';
      }
      failed('wrong', source);
      return 'wrong';
    },
    missing: () => failed('missing', ''),
  };
}
