import { setTimeout as sleep } from 'node:timers/promises';

/** Before the question is put again: backends behind a balancer learn of a block at different times. */
const PAUSES_MS = [20, 60, 180, 360];

/**
 * Puts a question again until it is answered: one of several backends behind an address may not have the block that
 * another one named.
 * @param askAgain best over a new connection, which a balancer may take elsewhere
 * @returns the last answer, answered or not
 */
export async function persist<T>(
  first: T,
  askAgain: (before: T) => Promise<T>,
  isAnswered: (answer: T) => boolean,
): Promise<T> {
  let answer = first;
  for (const pause of PAUSES_MS) {
    if (isAnswered(answer)) return answer;
    await sleep(pause);
    answer = await askAgain(answer);
  }
  return answer;
}
