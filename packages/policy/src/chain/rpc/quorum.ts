import { PolicyError } from '../../errors.ts';
import { outageReason } from '../../outage-reasons.ts';

/** Once enough endpoints have answered, how long slower ones may still take part. */
const GRACE_MS = 100;
/** And how long while those who have answered do not agree. */
const PATIENCE_MS = 1_500;

/** An answer and who gave it. */
export type Vote<Voter, T> = { readonly voter: Voter; readonly value: T };

/** The refusal for lack of agreement. */
export function noQuorum(cause?: unknown): PolicyError {
  return new PolicyError('chain-no-quorum', outageReason['no-quorum'], { cause });
}

type Collecting<Voter, T> = {
  /** Equal for answers that are the same; without it any `quorum` answers are enough. */
  readonly sameness?: (value: T) => string;
  /** Told of each voter that was not waited for. */
  readonly onLate?: (voter: Voter) => void;
  /** How long slower ones may still take part once there are enough. */
  readonly graceMs?: number;
};

/**
 * Ask all voters and collect what they say; ends when all have spoken, or a moment after `quorum` of them have, which
 * is a longer one while these do not agree: who is slow may be who decides.
 * @throws the only voter's own error when there is just one, else PolicyError `chain-no-quorum`
 */
export function collectVotes<Voter, T>(
  voters: readonly Voter[],
  quorum: number,
  ask: (voter: Voter) => Promise<T>,
  { sameness, onLate = () => {}, graceMs = GRACE_MS }: Collecting<Voter, T> = {},
): Promise<Vote<Voter, T>[]> {
  return new Promise((resolve, reject) => {
    const votes: Vote<Voter, T>[] = [];
    const errors: unknown[] = [];
    const open = new Set(voters);
    let [patience, grace]: (NodeJS.Timeout | undefined)[] = [];
    const finish = (): void => {
      clearTimeout(patience);
      clearTimeout(grace);
      if (votes.length >= quorum) resolve([...votes]);
      else reject(voters.length === 1 && errors[0] instanceof Error ? errors[0] : noQuorum(errors[0]));
    };
    const leaveBehind = (): void => {
      for (const voter of open) onLate(voter);
      finish();
    };
    const settle = (voter: Voter): void => {
      open.delete(voter);
      if (open.size === 0) {
        finish();
      } else if (votes.length >= quorum) {
        patience ??= setTimeout(leaveBehind, Math.max(graceMs, PATIENCE_MS));
        if (!sameness || agreeing(votes, quorum, sameness)) grace ??= setTimeout(leaveBehind, graceMs);
      }
    };
    for (const voter of voters) {
      ask(voter)
        .then((value) => void votes.push({ voter, value }))
        .catch((error: unknown) => void errors.push(error))
        .finally(() => settle(voter));
    }
  });
}

/** The votes that say the same, if they are at least `quorum`. */
export function agreeing<Voter, T>(
  votes: readonly Vote<Voter, T>[],
  quorum: number,
  sameness: (value: T) => string,
): Vote<Voter, T>[] | undefined {
  const groups = new Map<string, Vote<Voter, T>[]>();
  for (const vote of votes) {
    const key = sameness(vote.value);
    const group = groups.get(key) ?? [];
    group.push(vote);
    groups.set(key, group);
  }
  return [...groups.values()].find((group) => group.length >= quorum);
}
