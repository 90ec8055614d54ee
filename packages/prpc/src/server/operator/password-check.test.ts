import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { passwordCheck } from './password-check.ts';

// crypt_blowfish's own vector for "U*U", at cost 5.
const ALICE = 'alice:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n';

const check = passwordCheck(ALICE)!;

/** Turns of the event loop that a check takes: bcrypt gives way every so many rounds. */
async function turnsOf(user: string, password: string): Promise<number> {
  let done = false;
  const checked = check(user, password).then(() => {
    done = true;
  });
  let turns = 0;
  for (; !done; turns++) await turn();
  await checked;
  return turns;
}

test('an unknown user costs what a known one costs', async () => {
  const known = await turnsOf('alice', 'wrong');
  expect(Math.abs((await turnsOf('bob', 'wrong')) - known)).toBeLessThanOrEqual(2);
});

test('many guesses are checked one after the other, and the right password among them', async () => {
  const results: Promise<boolean>[] = [];
  for (let i = 0; i < 20; i++) results.push(check(`user-${i}`, 'U*U'));
  results.push(check('alice', 'U*U'));
  let done = false;
  const all = Promise.all(results).then((answers) => {
    done = true;
    return answers;
  });
  let turns = 0;
  for (; !done; turns++) await turn();
  expect(turns).toBeGreaterThanOrEqual(20);
  expect(await all).toEqual([...new Array<boolean>(20).fill(false), true]);
});

test('of many guesses at once only so many wait; the rest is refused, and afterwards all is well', async () => {
  // Loaded anew: the pair that was right in the test above would be known without a check.
  const fresh = passwordCheck(ALICE)!;
  const waiting = Array.from({ length: 64 }, () => fresh('alice', 'guess'));
  expect(await fresh('alice', 'U*U')).toBe(false);
  expect(await Promise.all(waiting)).toEqual(waiting.map(() => false));
  expect(await fresh('alice', 'U*U')).toBe(true);
});

test.each([
  ['a plain password', 'alice:secret'],
  ['another hash', 'alice:$apr1$abc$def'],
  ['no user', ':$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW'],
])('a file with %s is none', (_name, text) => {
  expect(passwordCheck(text)).toBeUndefined();
});
