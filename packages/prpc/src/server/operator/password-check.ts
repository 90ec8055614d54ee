import { bcryptMatches } from './bcrypt.ts';
import { type PasswordCheck, sameSecret } from './credentials.ts';

const MAX_LINES = 1024;
/** Checks that wait for their turn; who comes beyond is refused unchecked. */
const MAX_WAITING = 64;
/** Checked when there are no users at all. */
const NOBODY = '$2y$10$abcdefghijklmnopqrstuuAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';

/** The check that a bcrypt htpasswd file describes; undefined when a line of it is something else. */
export function passwordCheck(htpasswd: string): PasswordCheck | undefined {
  const users = new Map<string, string>();
  for (const line of htpasswd.split('\n').slice(0, MAX_LINES)) {
    const entry = line.trim();
    if (entry === '' || entry.startsWith('#')) continue;
    const colon = entry.indexOf(':');
    const hash = entry.slice(colon + 1);
    if (colon < 1 || !/^\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}$/.test(hash)) return undefined;
    users.set(entry.slice(0, colon), hash);
  }
  // Checked for unknown users, so that the time does not tell who exists: `htpasswd` gives all the same cost.
  const anybody = users.values().next().value ?? NOBODY;
  let accepted: { user: string; password: string } | undefined;
  // One at a time: many at once would hold up those who ask for keys.
  let last: Promise<unknown> = Promise.resolve();
  let waiting = 0;
  return async (user, password) => {
    // bcrypt takes tens of milliseconds: the pair that was right last is compared directly.
    if (accepted && sameSecret(accepted.user, user) && sameSecret(accepted.password, password)) return true;
    const hash = users.get(user);
    if (waiting >= MAX_WAITING) return false;
    waiting += 1;
    const check = last.then(() => bcryptMatches(password, hash ?? anybody));
    last = check
      .catch(() => undefined)
      .finally(() => {
        waiting -= 1;
      });
    const matches = (await check) && hash !== undefined;
    if (matches) accepted = { user, password };
    return matches;
  };
}
