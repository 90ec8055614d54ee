import { explainFailure } from '@dstack-cloud/contracts/tasks';
import { GovernanceError } from '@dstack-cloud/governance';
import { encodeFunctionData, type Hex, parseEventLogs, type TransactionReceipt, zeroHash } from 'viem';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';
import {
  appAbi,
  type ChainConfig,
  connectReader,
  connectWriter,
  kmsAbi,
  type Reader,
  shortMessage,
  type Writer,
} from './connect.ts';
import { disagreement, fromAll, fromOthers } from './other-endpoints.ts';
import { sendOnce, sentBefore, type Way } from './send-once.ts';
import { SentTransactions } from './sent-transactions.ts';

/** What the chain says about one app. */
export interface AppOnChain {
  readonly registered: boolean;
  readonly deployed: boolean;
  readonly owner: string | null;
  readonly compose_hash_allowed: boolean | null;
  readonly allow_any_device: boolean | null;
}

const address = (appId: string): Hex => `0x${appId}`;
const bytes32 = (hash: string): Hex => `0x${hash}`;

/** Reads the app's contract. @throws GovernanceError `chain-inconsistent` when a further endpoint says otherwise */
export async function readApp(
  context: Pick<Context, 'warn'>,
  reader: Reader,
  appId: string,
  composeHash: string,
): Promise<AppOnChain> {
  const { client, others, kms } = reader;
  const app = await readAppFrom(client, kms, appId, composeHash);
  for (const other of await fromOthers(context, others, (one) => readAppFrom(one, kms, appId, composeHash))) {
    const [expected, found] = [JSON.stringify(app), JSON.stringify(other)];
    if (found !== expected) throw disagreement(`app 0x${appId}`, expected, found);
  }
  return app;
}

async function readAppFrom(
  client: Reader['client'],
  kms: Hex,
  appId: string,
  composeHash: string,
): Promise<AppOnChain> {
  try {
    const [registered, code] = await Promise.all([
      client.readContract({
        address: kms,
        abi: kmsAbi,
        functionName: 'registeredApps',
        args: [address(appId)],
      }),
      client.getCode({ address: address(appId) }),
    ]);
    const deployed = code !== undefined && code !== '0x';
    if (!deployed)
      return {
        registered: registered === true,
        deployed,
        owner: null,
        compose_hash_allowed: null,
        allow_any_device: null,
      };
    const read = (functionName: string, args: readonly unknown[] = []): Promise<unknown> =>
      client.readContract({ address: address(appId), abi: appAbi, functionName, args });
    const [owner, allowed, anyDevice] = await Promise.all([
      read('owner'),
      read('allowedComposeHashes', [bytes32(composeHash)]),
      read('allowAnyDevice'),
    ]);
    return {
      registered: registered === true,
      deployed,
      owner: String(owner),
      compose_hash_allowed: allowed === true,
      allow_any_device: anyDevice === true,
    };
  } catch (error) {
    throw new CliError('chain_unreachable', `The chain cannot be read: ${shortMessage(error)}`);
  }
}

/**
 * Makes the app's contract through the KMS's factory; returns the app id, 40 hex digits.
 * @param announce gets the address that the contract is to have before the transaction is sent, so that a process that
 * is killed while it is under way has it on disk
 */
export async function createApp(
  context: Context,
  config: ChainConfig,
  maxCost: bigint,
  composeHash: string | undefined,
  announce: (appId: string) => Promise<void>,
): Promise<string> {
  const writer = await connectWriter(context, config);
  const args = [
    writer.account.address,
    false,
    // Devices are the operator's choice at a cloud; the compose hash decides.
    true,
    zeroHash,
    composeHash === undefined ? zeroHash : bytes32(composeHash),
  ];
  const logs = await transact(
    context,
    { ...writer, maxCost },
    { to: writer.kms, functionName: 'deployAndRegisterApp', abi: kmsAbi, args },
    (result) => announce(idOf(String(result))),
  );
  const events = parseEventLogs({ abi: kmsAbi, eventName: 'AppDeployedViaFactory', logs });
  const appId = (events[0] as { args?: { appId?: string } } | undefined)?.args?.appId;
  if (appId === undefined)
    throw new CliError('chain_unreachable', `${writer.kms} made no app contract: it is no DstackKms`);
  return idOf(appId);
}

const idOf = (contract: string): string => contract.slice(2).toLowerCase();

/** Allows or revokes a compose hash in the app's contract. */
export async function setComposeHash(
  context: Context,
  config: ChainConfig,
  maxCost: bigint,
  appId: string,
  composeHash: string,
  allowed: boolean,
): Promise<void> {
  const writer = await connectWriter(context, config);
  const before = await readApp(context, writer, appId, composeHash);
  if (!before.deployed)
    throw new CliError('app_not_registered', `There is no app contract at 0x${appId}`, {
      hint: 'Make one with dstack-cloud app create',
    });
  if (
    allowed &&
    before.owner !== null &&
    before.owner.toLowerCase() !== writer.account.address.toLowerCase()
  ) {
    throw new CliError('not_owner', `${writer.account.address} does not own the app contract 0x${appId}`, {
      ...{ expected: before.owner, found: writer.account.address },
      hint: `Use the key of its owner. If that is a Timelock or a Safe, propose it:\ndstack-cloud gov propose app:add-hash --app-id 0x${appId} 0x${composeHash}`,
    });
  }
  const functionName = allowed ? 'addComposeHash' : 'removeComposeHash';
  await transact(
    context,
    { ...writer, maxCost },
    { to: address(appId), functionName, abi: appAbi, args: [bytes32(composeHash)] },
  );
}

/** Reader for a chain that the configuration must name. */
export async function requireReader(context: Context, config: ChainConfig | undefined): Promise<Reader> {
  return await connectReader(requireChain(config), context);
}

/** The chain's settings, or an error that says what is missing. */
export function requireChain(config: ChainConfig | undefined): ChainConfig {
  if (config !== undefined) return config;
  throw new CliError('bad_config', 'The global configuration names no chain', {
    hint: 'Add "chain": {"rpc_url", "kms_contract", "private_key_file"} with dstack-cloud config-edit',
  });
}

type Transaction = {
  readonly to: Hex;
  readonly functionName: string;
  readonly abi: typeof appAbi;
  readonly args: readonly unknown[];
};

/** Throws `chain_unreachable`; with `pending` when the transaction was sent, and may still come to pass. */
async function transact(
  context: Context,
  writer: Writer & Pick<Way, 'maxCost'>,
  { to, functionName, abi, args }: Transaction,
  announce: (result: unknown) => Promise<void> = async () => undefined,
): Promise<TransactionReceipt['logs']> {
  const failed = (error: unknown): CliError =>
    new CliError('chain_unreachable', `${functionName} failed: ${shortMessage(error)}`, {
      hint:
        (error as { hint?: string }).hint ?? 'Check that the account owns the contract and has funds for gas',
    });
  const { account, client, others, chain, maxCost } = writer;
  const way: Way = {
    chain: { chain, public: client, signer: async () => ({ account }) },
    ...{ others, maxCost },
  };
  const sending = { to, data: encodeFunctionData({ abi, functionName, args: [...args] }) };
  const before = await sentBefore(context, way, sending);
  const call = { account, address: to, abi, functionName, args };
  if (before === undefined) {
    const tried = async (one: Reader['client']): Promise<unknown> => {
      try {
        return (await one.simulateContract(call)).result;
      } catch (error) {
        // A further endpoint that refuses the call has answered.
        throw one === client ? error : explainFailure(error);
      }
    };
    const result = await fromAll(context, { client, others }, tried).catch((error: unknown) => {
      throw error instanceof GovernanceError ? error : failed(error);
    });
    await announce(result);
  } else {
    context.warn(
      `An earlier command sent this as transaction ${before.hash}, and did not see it confirmed: it is waited for, and nothing else is sent`,
    );
  }
  try {
    return (await sendOnce(context, way, sending)).receipt.logs;
  } catch (error) {
    const sent = await new SentTransactions(context).find(chain.id, account.address, sending);
    if (sent !== undefined && sent.refused !== true) throw new PendingTransaction(sent.hash, error);
    throw error instanceof GovernanceError ? error : failed(error);
  }
}

/** A transaction that was sent and not seen to be included. */
export class PendingTransaction extends CliError {
  constructor(hash: string, cause: unknown) {
    super('chain_unreachable', `Transaction ${hash} was sent, but is not confirmed: ${shortMessage(cause)}`, {
      hint: 'It may still be included. Run the same command again: it waits for this transaction, and sends no second one',
    });
  }
}
