import { dstackAppAbi, dstackKmsAbi } from '@dstack-cloud/contracts';
import { addressValue, listedHashValue } from '@dstack-cloud/contracts/tasks';
import {
  type ContractState,
  callLines,
  describeCall,
  GovernanceError,
  routeOf,
} from '@dstack-cloud/governance';
import { type Abi, type Address, encodeFunctionData, isAddressEqual } from 'viem';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { connectGov, type GovOptions, type GovSession } from '../gov/connect-gov.ts';
import { sendCall } from '../gov/send-call.ts';
import { type StartOptions, startCalls } from '../gov/start-calls.ts';
import { warnOfWaitingAdditions } from '../gov/waiting-additions.ts';

type Options = GovOptions & StartOptions & { appId?: string };

/** What a guardian can take away: the function, how its value is read, and the list that it is removed from. */
const kinds: Readonly<
  Record<
    string,
    {
      functionName: string;
      /** The functions that allow the same value again. */
      undoneBy: readonly string[];
      value: (text: string) => unknown;
      list?: string;
      onApp?: true;
      noValue?: true;
    }
  >
> = {
  image: {
    functionName: 'removeOsImageHash',
    undoneBy: ['addOsImageHash', 'addOsImageHashUntil', 'addMeasurement'],
    value: (text) => listedHashValue('VALUE', text),
    list: 'allowedOsImages',
  },
  mr: {
    functionName: 'removeKmsAggregatedMr',
    undoneBy: ['addKmsAggregatedMr'],
    value: (text) => listedHashValue('VALUE', text),
    list: 'kmsAllowedAggregatedMrs',
  },
  device: {
    functionName: 'removeKmsDevice',
    undoneBy: ['addKmsDevice'],
    value: (text) => listedHashValue('VALUE', text),
    list: 'kmsAllowedDeviceIds',
  },
  app: { functionName: 'blockApp', undoneBy: ['unblockApp'], value: (text) => addressValue('VALUE', text) },
  advisory: { functionName: 'denyAdvisory', undoneBy: ['allowAdvisory'], value: (text) => text },
  everything: { functionName: 'pause', undoneBy: ['unpause'], value: () => undefined, noValue: true },
  'compose-hash': {
    functionName: 'removeComposeHash',
    undoneBy: ['addComposeHash', 'addComposeHashUntil', 'replaceComposeHash'],
    value: (text) => listedHashValue('VALUE', text),
    list: 'allowedComposeHashes',
    onApp: true,
  },
  'app-device': {
    functionName: 'removeDevice',
    undoneBy: ['addDevice'],
    value: (text) => listedHashValue('VALUE', text),
    list: 'allowedDeviceIds',
    onApp: true,
  },
};

/**
 * `gov emergency-revoke`: a guardian or the owner takes something away at once. Anybody else starts the same revocation in
 * the way that the owner demands, and is told when it can take effect.
 */
export async function run(context: Context, words: readonly string[], options: Options): Promise<undefined> {
  const [kind = '', value, ...more] = words;
  const chosen = Object.hasOwn(kinds, kind) ? kinds[kind] : undefined;
  if (chosen === undefined || more.length > 0 || (value === undefined) !== (chosen.noValue === true)) {
    throw new CliError(
      'usage',
      `It is one of ${Object.keys(kinds).join(', ')}, and its value (none for everything)`,
      {
        ...{ exitCode: EXIT.usage, hint: 'See dstack-cloud gov emergency-revoke --help' },
      },
    );
  }
  const session = await connectGov(context, options);
  const view = await session.read();
  const { governance, known } = view;
  const contract = chosen.onApp ? appOf(governance.apps, options.appId) : governance.kms;
  const to: Address = contract.address;
  const abi = (chosen.onApp ? dstackAppAbi : dstackKmsAbi) as Abi;
  const data = encodeFunctionData({
    ...{ abi, functionName: chosen.functionName },
    args: value === undefined ? [] : [chosen.value(value)],
  });
  const call = { to, value: 0n, data };
  if (chosen.list !== undefined && value !== undefined) {
    const list = { address: to, abi, functionName: chosen.list, args: [chosen.value(value)] };
    await warnIfAbsent(context, session, list);
  }
  const revoked = { contract: to, undoneBy: chosen.undoneBy, value: value && chosen.value(value) };
  const undone = async () =>
    (await warnOfWaitingAdditions(context, session, view, revoked)).map(({ file, ...one }) => ({
      ...{ ...one, file: file ?? null },
    }));
  const account = session.dryRun ? await session.findAccount() : (await session.chain.signer()).account;
  const allowed = [...contract.guardians, contract.owner];
  if (account === undefined || !allowed.some((one) => isAddressEqual(one, account.address))) {
    sayWhoCould(context, contract, account?.address);
    const route = routeOf(governance, [call]);
    const started = await startCalls(context, session, view, { route, calls: [call] }, options);
    context.result({ immediate: false, ...started, allowed_again_by: await undone() });
    return undefined;
  }
  for (const line of callLines(describeCall(call, known))) context.print(line);
  const receipt = await sendCall(context, session, call, { what: describeCall(call, known).text });
  if (receipt !== undefined) {
    context.print(
      `Revoked in transaction ${receipt.transactionHash}. Only the owner can allow it again, with delay`,
    );
  }
  context.result({
    ...{ immediate: true, effect: callLines(describeCall(call, known)), from: account.address },
    ...{ sent: receipt !== undefined, transaction: receipt?.transactionHash ?? null },
    allowed_again_by: await undone(),
  });
  return undefined;
}

type List = { address: Address; abi: Abi; functionName: string; args: readonly unknown[] };

/**
 * The contract removes what is not there without a complaint, so a wrong hash would look like a success. A warning only: an
 * endpoint that is behind or lies must not hold up a revocation.
 */
async function warnIfAbsent({ warn }: Context, { client }: GovSession, list: List): Promise<void> {
  const isListed = await client.readContract(list).catch(() => undefined);
  if (isListed !== false) return;
  warn(
    `${String(list.args[0])} is not allowed by ${list.address} now, so this changes nothing. Check that it is the one you mean`,
  );
}

/** In an emergency it matters that another key would be faster. */
function sayWhoCould(
  { warn }: Context,
  { address, guardians }: ContractState,
  account: Address | undefined,
): void {
  const faster =
    guardians.length === 0
      ? `${address} has no guardian: only its owner can revoke`
      : `A guardian can revoke at once: ${guardians.join(' or ')}`;
  const who = account === undefined ? 'No key was given' : `${account} is not a guardian of ${address}`;
  warn(`${who}, so this prepares the same revocation for the owner instead. ${faster}`);
}

function appOf(apps: readonly ContractState[], text: string | undefined): ContractState {
  if (text === undefined) throw new CliError('usage', 'It needs --app-id ADDRESS', { exitCode: EXIT.usage });
  const address = addressValue('--app-id', text);
  const found = apps.find((one) => isAddressEqual(one.address, address));
  if (found !== undefined) return found;
  throw new GovernanceError('not-found', `${address} is no app that this DstackKms knows`, {
    hint: 'Name it with --app too if it is not registered',
  });
}
