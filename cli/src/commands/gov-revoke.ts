import { dstackAppAbi, dstackKmsAbi } from '@dstack-cloud/contracts';
import { addressValue, listedHashValue } from '@dstack-cloud/contracts/tasks';
import { type ContractState, callLines, describeCall, GovernanceError } from '@dstack-cloud/governance';
import { type Abi, type Address, encodeFunctionData, isAddressEqual } from 'viem';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { connectGov, type GovOptions } from '../gov/connect-gov.ts';
import { sendCall } from '../gov/send-call.ts';

type Options = GovOptions & { appId?: string };

/** What a guardian can take away: the function, and how its value is read. */
const kinds: Readonly<
  Record<string, { functionName: string; value: (text: string) => unknown; onApp?: true; noValue?: true }>
> = {
  image: { functionName: 'removeOsImageHash', value: (text) => listedHashValue('VALUE', text) },
  mr: { functionName: 'removeKmsAggregatedMr', value: (text) => listedHashValue('VALUE', text) },
  device: { functionName: 'removeKmsDevice', value: (text) => listedHashValue('VALUE', text) },
  app: { functionName: 'blockApp', value: (text) => addressValue('VALUE', text) },
  advisory: { functionName: 'denyAdvisory', value: (text) => text },
  everything: { functionName: 'pause', value: () => undefined, noValue: true },
  'compose-hash': {
    functionName: 'removeComposeHash',
    value: (text) => listedHashValue('VALUE', text),
    onApp: true,
  },
  'app-device': {
    functionName: 'removeDevice',
    value: (text) => listedHashValue('VALUE', text),
    onApp: true,
  },
};

/** `gov emergency-revoke`: a guardian takes something away. No signatures, no delay. */
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
  const data = encodeFunctionData({
    ...{ abi: (chosen.onApp ? dstackAppAbi : dstackKmsAbi) as Abi, functionName: chosen.functionName },
    args: value === undefined ? [] : [chosen.value(value)],
  });
  const call = { to, value: 0n, data };
  for (const line of callLines(describeCall(call, known))) context.print(line);
  const { account } = await session.chain.signer();
  const allowed = [...contract.guardians, contract.owner];
  if (!allowed.some((one) => isAddressEqual(one, account.address))) {
    throw new GovernanceError('not-allowed', `${account.address} is no guardian of ${to}`, {
      ...{ expected: contract.guardians.join(' or ') || 'no guardian is named', found: account.address },
      hint: 'Use the key of a guardian. Without one, propose the removal: it then waits for the delay',
    });
  }
  const receipt = await sendCall(context, session, call, { what: describeCall(call, known).text });
  if (receipt !== undefined) {
    context.print(
      `Revoked in transaction ${receipt.transactionHash}. Only the owner can allow it again, with delay`,
    );
  }
  context.result({
    ...{ effect: callLines(describeCall(call, known)), from: account.address },
    ...{ sent: receipt !== undefined, transaction: receipt?.transactionHash ?? null },
  });
  return undefined;
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
