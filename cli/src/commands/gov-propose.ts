import { randomBytes } from 'node:crypto';
import {
  type Call,
  callLines,
  canonicalSafeContract,
  describeCall,
  durationText,
  encodeMultiSend,
  GovernanceError,
  isSafeContract,
  operationId,
  type Route,
  routeOf,
  scheduleCall,
  simulateCalls,
  type TimelockOperation,
  timeText,
} from '@dstack-cloud/governance';
import { bytesToHex, type Hex, zeroHash } from 'viem';
import type { Context } from '../context.ts';
import { callsOfWords } from '../gov/actions.ts';
import {
  connectGov,
  type GovOptions,
  type GovSession,
  type GovView,
  wholeNumber,
} from '../gov/connect-gov.ts';
import { makeProposal, type ProposeOptions } from '../gov/make-proposal.ts';
import { sendCall } from '../gov/send-call.ts';

type Options = GovOptions & ProposeOptions & { delay?: string; after?: string; allowDebug?: boolean };

/** `gov propose`: says what would change, tries it on the chain as it is, and starts it in the way that the owner demands. */
export async function run(context: Context, words: readonly string[], options: Options): Promise<undefined> {
  const session = await connectGov(context, options);
  const view = await session.read();
  const { governance, known } = view;
  const calls = await callsOfWords(words, session, view, options.allowDebug === true);
  const route = routeOf(governance, calls);
  const described = calls.map((call) => describeCall(call, known));
  for (const one of described) for (const line of callLines(one)) context.print(line);
  const simulated = await simulateCalls(session.client, route.authority, calls, {
    names: described.map(({ text }) => text),
    isScheduled: route.timelock !== undefined,
  });
  if (!simulated.inSequence) {
    context.warn('This endpoint tries each call alone: whether one undoes the next was not seen');
  }
  const operation = operationOf(route, calls, options);
  const starting =
    operation === undefined || route.timelock === undefined
      ? calls
      : [scheduleCall(route.timelock.address, operation.operation, operation.delay)];
  sayWhen(context, view, route, operation?.delay);
  const result = {
    effect: described.flatMap((one) => callLines(one)),
    authority: route.authority,
    ...(operation && {
      operation: operation.id,
      salt: operation.operation.salt,
      delay_seconds: Number(operation.delay),
    }),
  };
  if (operation !== undefined) context.print(`Operation ${operation.id}`);

  if (route.safe === undefined) {
    const [call, ...more] = starting;
    if (call === undefined || more.length > 0) {
      throw new GovernanceError('bad-input', 'An account that owns the contracts makes one call at a time', {
        hint: 'Propose the calls one by one',
      });
    }
    const receipt = await sendCall(context, session, call, {
      ...{
        what: operation === undefined ? (described[0]?.text ?? 'call') : 'schedule it',
        who: route.accounts,
      },
    });
    if (receipt !== undefined) {
      context.print(operation === undefined ? 'Done' : 'Scheduled');
    }
    context.result({ ...result, sent: receipt !== undefined, transaction: receipt?.transactionHash ?? null });
    return undefined;
  }
  const tx = await batched(session, starting);
  const made = await makeProposal(context, session, view, route.safe, tx, options);
  context.result({ ...result, ...made });
  return undefined;
}

function operationOf(
  { timelock }: Route,
  calls: readonly Call[],
  { delay, after }: Options,
): { id: Hex; operation: TimelockOperation; delay: bigint } | undefined {
  if (timelock === undefined) return undefined;
  const seconds = BigInt(wholeNumber('--delay', delay) ?? timelock.minDelay);
  if (seconds < timelock.minDelay) {
    throw new GovernanceError('bad-input', 'The delay is shorter than the Timelock allows', {
      ...{ expected: `at least ${durationText(timelock.minDelay)}`, found: durationText(seconds) },
    });
  }
  if (after !== undefined && !timelock.operations.some(({ id }) => id === after.toLowerCase())) {
    throw new GovernanceError('not-found', `There is no operation ${after} to come before this one`);
  }
  // Random, because two pending operations of one content need different salts.
  const salt = bytesToHex(randomBytes(32));
  const predecessor = (after?.toLowerCase() ?? zeroHash) as Hex;
  const operation = { calls, predecessor, salt, isBatch: calls.length > 1 };
  return { id: operationId(operation), operation, delay: seconds };
}

/** One transaction of the Safe for all calls. */
async function batched(
  session: GovSession,
  calls: readonly Call[],
): Promise<{ call: Call; operation: 0 | 1 }> {
  const [only, ...more] = calls;
  if (only !== undefined && more.length === 0) return { call: only, operation: 0 };
  const { client, file } = session;
  const own = file?.multiSend;
  const multiSend =
    own !== undefined && (await isSafeContract(client, 'MultiSendCallOnly', own))
      ? own
      : await canonicalSafeContract(client, 'MultiSendCallOnly');
  if (multiSend === undefined) {
    throw new GovernanceError('not-found', 'This chain has no MultiSendCallOnly of Safe 1.4.1 for batches', {
      hint: 'Name one as multiSend in governance.json, or propose the calls one by one',
    });
  }
  return { call: { to: multiSend, value: 0n, data: encodeMultiSend(calls) }, operation: 1 };
}

function sayWhen(context: Context, { governance }: GovView, route: Route, delay: bigint | undefined): void {
  const who =
    route.safe === undefined
      ? route.accounts.join(' or ')
      : `${route.safe.threshold} of ${route.safe.owners.length} signers of Safe ${route.safe.address}`;
  const verb = route.timelock === undefined ? 'can do this' : 'can schedule this';
  context.print(`${who} ${verb}`);
  if (delay === undefined) context.print('It takes effect at once when it is executed');
  else {
    const earliest = timeText(governance.block.timestamp + delay);
    context.print(`It takes effect ${durationText(delay)} after it is scheduled, not before ${earliest}`);
  }
}
