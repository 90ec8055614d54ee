import { describeCall, GovernanceError, leafCalls } from '@dstack-cloud/governance';
import { type Address, type Hex, isAddressEqual } from 'viem';
import type { Context } from '../context.ts';
import type { GovSession, GovView } from './connect-gov.ts';
import { pendingProposals } from './pending-proposals.ts';
import { wordsOf } from './proposals.ts';

/** More are counted, not named. */
const MAX_NAMED = 10;

/** Something that is taken away: where, and with which functions it is allowed again. */
export interface Revoked {
  readonly contract: Address;
  readonly undoneBy: readonly string[];
  /** The argument of those functions that is allowed again; undefined when they have none. */
  readonly value: unknown;
}

/** What waits and would allow again what is revoked, and the command that stops it. */
export interface WaitingAddition {
  readonly kind: 'operation' | 'proposal';
  readonly id: Hex;
  /** Undefined for an operation, and when only the transaction service has the proposal. */
  readonly file: string | undefined;
  readonly stop: string;
}

/**
 * Names what waits and would undo a revocation: a revocation does not stop it. It is asked for after the revocation, which
 * neither a file nor a transaction service may hold up.
 */
export async function warnOfWaitingAdditions(
  { warn }: Pick<Context, 'warn'>,
  session: GovSession,
  view: GovView,
  revoked: Revoked,
): Promise<WaitingAddition[]> {
  const found = operationsThatUndo(view, revoked);
  try {
    found.push(...(await proposalsThatUndo(session, view, revoked)));
  } catch (error) {
    // The revocation is made: its result is not lost for this. Other errors may show the endpoint's URL, with its key.
    const why = error instanceof GovernanceError ? error.message : 'the chain could not be read';
    warn(`Whether a proposal would allow it again is not known: ${why}`);
    const withoutService = { ...session, service: () => undefined };
    found.push(...(await proposalsThatUndo(withoutService, view, revoked).catch(() => [])));
  }
  const named = found.slice(0, MAX_NAMED);
  for (const { kind, id, file, stop } of named) {
    const what = kind === 'operation' ? `Operation ${id}` : (file ?? `Safe transaction ${id}`);
    warn(`${what} would allow it again when it is executed. To stop that: ${stop}`);
  }
  if (found.length > named.length)
    warn(`${found.length - named.length} more would allow it again: see dstack-cloud gov status`);
  return named;
}

function operationsThatUndo({ governance, known }: GovView, revoked: Revoked): WaitingAddition[] {
  return [...governance.principals.values()]
    .flatMap((one) => (one.kind === 'timelock' ? one.timelock.operations : []))
    .filter(({ state }) => state === 'waiting' || state === 'ready')
    .filter(({ calls }) => calls.some((call) => undoes(describeCall(call, known), revoked)))
    .map(({ id }) => ({ kind: 'operation', id, file: undefined, stop: `dstack-cloud gov cancel ${id}` }));
}

/** Those that signers agreed to first: anybody can put a file into a folder. */
async function proposalsThatUndo(
  session: GovSession,
  view: GovView,
  revoked: Revoked,
): Promise<WaitingAddition[]> {
  return (await pendingProposals(session, view))
    .filter((one) => undoes(wordsOf(one, view), revoked))
    .sort((one, other) => other.signers.length - one.signers.length)
    .map(({ hash, path }) => ({
      ...{ kind: 'proposal', id: hash, file: path, stop: `dstack-cloud gov reject ${path ?? hash}` },
    }));
}

function undoes(words: ReturnType<typeof describeCall>, { contract, undoneBy, value }: Revoked): boolean {
  return leafCalls(words).some(
    ({ target, functionName, args }) =>
      isAddressEqual(target, contract) &&
      functionName !== undefined &&
      undoneBy.includes(functionName) &&
      (value === undefined ||
        String(addedBy(functionName, args)).toLowerCase() === String(value).toLowerCase()),
  );
}

/** `replaceComposeHash(before, after, grace)` is the one that names what it adds second. */
function addedBy(functionName: string, args: readonly unknown[]): unknown {
  return args[functionName === 'replaceComposeHash' ? 1 : 0];
}
