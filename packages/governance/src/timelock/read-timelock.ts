import {
  type Address,
  getAbiItem,
  getAddress,
  type Hex,
  type PublicClient,
  zeroAddress,
  zeroHash,
} from 'viem';
import { GovernanceError } from '../errors.ts';
import { ifPresent, requirePresent } from '../state/absent.ts';
import { readLogs } from '../state/read-logs.ts';
import { type Call, operationId, type TimelockOperation } from './operation.ts';
import { roleIds, roleOf, type TimelockRole } from './roles.ts';
import { timelockAbi } from './timelock-abi.ts';

/** What became of an operation. */
export type OperationState = 'waiting' | 'ready' | 'expired' | 'done' | 'cancelled';

/** An operation that was scheduled at some time. */
export type ScheduledOperation = TimelockOperation & {
  readonly id: Hex;
  readonly state: OperationState;
  /** Seconds between scheduling and readiness, when it was scheduled. */
  readonly delay: bigint;
  /** Unix seconds from which it can be executed; undefined when it is done or cancelled. */
  readonly readyAt: bigint | undefined;
  /** Unix seconds after which it cannot be executed any more; undefined when it does not expire. */
  readonly expiresAt: bigint | undefined;
  readonly scheduledIn: { readonly block: bigint; readonly transaction: Hex };
};

/** A Timelock at one block. */
export type TimelockState = {
  readonly address: Address;
  /** Seconds. */
  readonly minDelay: bigint;
  /** Seconds for which a ready operation can be executed; 0 is for ever, as in OpenZeppelin's own. */
  readonly gracePeriod: bigint;
  readonly roles: Readonly<Record<TimelockRole, readonly Address[]>>;
  /** Anybody may execute what is ready. */
  readonly isOpen: boolean;
  /** In the order in which they were scheduled, also those that are done or cancelled. */
  readonly operations: readonly ScheduledOperation[];
};

const events = [
  getAbiItem({ abi: timelockAbi, name: 'CallScheduled' }),
  getAbiItem({ abi: timelockAbi, name: 'CallSalt' }),
  getAbiItem({ abi: timelockAbi, name: 'RoleGranted' }),
] as const;

/**
 * Roles and operations come from logs, because the contract cannot list them; each is then confirmed by the contract's
 * state. An endpoint that leaves logs out can hide one, and can invent none.
 *
 * @param fromBlock where the contract was deployed, or earlier
 * @throws GovernanceError `not-found` when there is no Timelock, `chain-inconsistent` when an id does not fit its calls
 */
export async function readTimelock(
  client: PublicClient,
  address: Address,
  block: { readonly number: bigint; readonly timestamp: bigint },
  fromBlock: bigint,
): Promise<TimelockState> {
  const at = block.number;
  const read = { address, abi: timelockAbi, blockNumber: at } as const;
  const minDelay = await requirePresent(
    client.readContract({ ...read, functionName: 'getMinDelay' }),
    () => new GovernanceError('not-found', `${address} does not answer as a Timelock`),
  );
  // Only DstackTimelock has one.
  const gracePeriod = (await ifPresent(client.readContract({ ...read, functionName: 'gracePeriod' }))) ?? 0n;
  const logs = await readLogs(client, { address: [address], events, fromBlock, toBlock: at });

  const candidates = new Map<TimelockRole, Set<Address>>();
  const scheduled = new Map<Hex, Collected>();
  const salts = new Map<Hex, Hex>();
  for (const log of logs) {
    if (log.eventName === 'RoleGranted') {
      const role = roleOf(log.args.role);
      if (role !== undefined) candidates.set(role, (candidates.get(role) ?? new Set()).add(log.args.account));
    } else if (log.eventName === 'CallSalt') {
      salts.set(log.args.id, log.args.salt);
    } else if (log.eventName === 'CallScheduled') {
      collect(scheduled, log.args, log);
    }
  }
  const holders = async (role: TimelockRole): Promise<Address[]> => {
    const accounts = [...(candidates.get(role) ?? [])];
    const holds = await Promise.all(
      accounts.map((account) =>
        client.readContract({ ...read, functionName: 'hasRole', args: [roleIds[role], account] }),
      ),
    );
    return accounts.filter((_, index) => holds[index]);
  };
  const [proposer, canceller, executor, admin] = await Promise.all(
    (['proposer', 'canceller', 'executor', 'admin'] as const).map(holders),
  );
  const operations = await Promise.all(
    [...scheduled].map(async ([id, { calls, predecessor, delay, place }]): Promise<ScheduledOperation> => {
      const operation = identified(address, id, [...calls], predecessor, salts.get(id) ?? zeroHash);
      const timestamp = await client.readContract({ ...read, functionName: 'getTimestamp', args: [id] });
      return {
        ...operation,
        ...{ id, delay, scheduledIn: place },
        ...stateOf(timestamp, gracePeriod, block.timestamp),
      };
    }),
  );
  return {
    ...{ address: getAddress(address), minDelay, gracePeriod, operations },
    roles: {
      proposer: proposer ?? [],
      canceller: canceller ?? [],
      executor: executor ?? [],
      admin: admin ?? [],
    },
    isOpen: executor?.includes(zeroAddress) ?? false,
  };
}

type Collected = {
  calls: Call[];
  predecessor: Hex;
  delay: bigint;
  place: { block: bigint; transaction: Hex };
};

function collect(
  scheduled: Map<Hex, Collected>,
  args: {
    id: Hex;
    index: bigint;
    target: Address;
    value: bigint;
    data: Hex;
    predecessor: Hex;
    delay: bigint;
  },
  { blockNumber, transactionHash }: { blockNumber: bigint; transactionHash: Hex },
): void {
  const { id, index, target, value, data, predecessor, delay } = args;
  const place = { block: blockNumber, transaction: transactionHash };
  // Index 0 begins an operation, also one that was cancelled and is scheduled once more.
  const before = index === 0n ? undefined : scheduled.get(id);
  const operation = before ?? { calls: [], predecessor, delay, place };
  operation.calls.push({ to: target, value, data });
  if (before === undefined) {
    scheduled.delete(id);
    scheduled.set(id, operation);
  }
}

/** The operation with this id. A batch of one call differs from a call in its id alone. */
function identified(
  timelock: Address,
  id: Hex,
  calls: readonly Call[],
  predecessor: Hex,
  salt: Hex,
): TimelockOperation {
  for (const isBatch of calls.length === 1 ? [false, true] : [true]) {
    const operation = { calls, predecessor, salt, isBatch };
    if (operationId(operation) === id) return operation;
  }
  throw new GovernanceError(
    'chain-inconsistent',
    `The calls that the endpoint tells of do not make operation ${id} of Timelock ${timelock}`,
    { hint: 'Ask another endpoint: this one leaves out or changes events' },
  );
}

/** TimelockController.getOperationState: 0 is unknown, 1 done, anything else the time from which it is ready. */
function stateOf(
  timestamp: bigint,
  gracePeriod: bigint,
  now: bigint,
): Pick<ScheduledOperation, 'state' | 'readyAt' | 'expiresAt'> {
  if (timestamp <= 1n) {
    return { state: timestamp === 1n ? 'done' : 'cancelled', readyAt: undefined, expiresAt: undefined };
  }
  const expiresAt = gracePeriod === 0n ? undefined : timestamp + gracePeriod;
  const isExpired = expiresAt !== undefined && now > expiresAt;
  return {
    state: timestamp > now ? 'waiting' : isExpired ? 'expired' : 'ready',
    ...{ readyAt: timestamp, expiresAt },
  };
}
