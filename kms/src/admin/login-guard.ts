import type { IncomingMessage } from 'node:http';
import { networkOf, type PlainResponse, TokenBuckets } from '@dstack-cloud/prpc';
import type { Kms } from '../kms.ts';

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

/** Counts, logs and limits failed logins. */
export type LoginGuard = {
  /** Checks a credential, unless the client's network has shown too many wrong ones. */
  check(request: IncomingMessage, isRight: () => boolean | Promise<boolean>): Promise<Login>;
  /** A request came without any. */
  missing(): void;
};

export function loginGuard(
  listener: 'admin' | 'onboard' | 'main',
  { metrics, log }: Pick<Kms, 'metrics' | 'log'>,
  now: () => number = () => performance.now(),
): LoginGuard {
  const wrong = new TokenBuckets(LOGINS_PER_MINUTE, LOGIN_BURST, now);
  const failed = (result: 'missing' | 'wrong' | 'limited'): void => {
    metrics.loginFailures.inc({ listener, result });
    metrics.refused.inc({ step: 'login' });
  };
  return {
    async check({ socket }, isRight) {
      const source = networkOf(socket.remoteAddress ?? '');
      // Taken before, so that many at once count as well.
      if (!wrong.take(source)) {
        failed('limited');
        return 'limited';
      }
      if (await isRight()) {
        wrong.give(source);
        return 'right';
      }
      failed('wrong');
      log.warn({ source, listener }, 'login failed');
      return 'wrong';
    },
    missing: () => failed('missing'),
  };
}
