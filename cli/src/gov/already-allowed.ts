import { dstackAppAbi, dstackKmsAbi } from '@dstack-cloud/contracts';
import {
  type Call,
  type CallInWords,
  describeCall,
  GovernanceError,
  ifPresent,
  leafCalls,
  type Route,
} from '@dstack-cloud/governance';
import type { Abi, PublicClient } from 'viem';
import { fromOthers } from '../chain/other-endpoints.ts';
import type { Context } from '../context.ts';
import type { GovSession, GovView } from './connect-gov.ts';

/** Calls that are looked up, each with one or two questions to the endpoint. */
const MAX_LOOKED_UP = 64;

/** Additions without an end: the list that has what they add, and where its end is read, if it can have one. */
const lists: Readonly<Record<string, { list: string; end?: string }>> = {
  addOsImageHash: { list: 'allowedOsImages', end: 'osImageNotAfter' },
  addMeasurement: { list: 'allowedOsImages', end: 'osImageNotAfter' },
  addKmsAggregatedMr: { list: 'kmsAllowedAggregatedMrs' },
  addKmsDevice: { list: 'kmsAllowedDeviceIds' },
  addComposeHash: { list: 'allowedComposeHashes', end: 'composeHashNotAfter' },
  addDevice: { list: 'allowedDeviceIds' },
};

/**
 * Signers and days of waiting are not spent on what is allowed already. An account that makes the calls itself is only told: it
 * repeats a command that was killed after it had sent them.
 * @throws GovernanceError `bad-input`
 */
export async function refuseAlreadyAllowed(
  context: Context,
  session: GovSession,
  view: GovView,
  { timelock, safe }: Route,
  calls: readonly Call[],
): Promise<void> {
  const leaves = calls.flatMap((call) => leafCalls(describeCall(call, view.known)));
  // What is removed and added again in one step is no addition of what is there.
  if (leaves.length > MAX_LOOKED_UP || leaves.some(({ effect }) => effect === 'removes')) return;
  const ask = (client: PublicClient): Promise<boolean[]> =>
    Promise.all(leaves.map((leaf) => isAllowed(client, view, leaf)));
  // One endpoint that lies keeps nobody from an addition.
  const answers = [await ask(session.client), ...(await fromOthers(context, session.others, ask))];
  const already = leaves.filter((_, index) => answers.every((answer) => answer[index] === true));
  if (already.length === 0) return;
  const named = already.map(({ text }) => text).join('; ');
  if (already.length < leaves.length || (timelock === undefined && safe === undefined)) {
    context.warn(`In force already, so this part changes nothing: ${named}`);
    return;
  }
  throw new GovernanceError('bad-input', `In force already, so this would change nothing: ${named}`, {
    hint: 'Nothing is left to do. Pass --again to propose it all the same, such as when a removal of it waits',
  });
}

/** Allowed without an end: an addition would take an end away. */
async function isAllowed(
  client: PublicClient,
  { governance }: GovView,
  { target, targetKind, functionName, args }: CallInWords,
): Promise<boolean> {
  const known =
    functionName !== undefined && Object.hasOwn(lists, functionName) ? lists[functionName] : undefined;
  if (known === undefined || (targetKind !== 'kms' && targetKind !== 'app')) return false;
  const read = (name: string): Promise<unknown> =>
    ifPresent(
      client.readContract({
        ...{ address: target, abi: (targetKind === 'kms' ? dstackKmsAbi : dstackAppAbi) as Abi },
        ...{ functionName: name, args: [args[0]], blockNumber: governance.block.number },
      }),
    );
  if ((await read(known.list)) !== true) return false;
  return known.end === undefined || BigInt(((await read(known.end)) as bigint | undefined) ?? 0n) === 0n;
}
