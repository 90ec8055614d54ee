import { readFileBounded } from '@dstack-cloud/app';
import { dstackKmsAbi } from '@dstack-cloud/contracts';
import {
  addressValue,
  callOfTask,
  implementationOf,
  refuseOldLayout,
  requireUups,
  tasks,
  unsignedOf,
} from '@dstack-cloud/contracts/tasks';
import { nearestName } from '@dstack-cloud/encoding';
import {
  type Call,
  previousOwner,
  roleIds,
  type SafeState,
  safeAbi,
  type TimelockState,
  timelockAbi,
} from '@dstack-cloud/governance';
import { type Abi, type Address, encodeFunctionData, type Hex } from 'viem';
import { z } from 'zod';
import { CliError, EXIT } from '../errors.ts';
import { wholeNumber } from '../whole-number.ts';
import type { GovSession, GovView } from './connect-gov.ts';

const MAX_BATCH = 1024 * 1024;

/** Names of the governance manual for tasks that have other names here. */
const aliases: Readonly<Record<string, string>> = {
  'add-os-image': 'kms:add-image',
  'remove-os-image': 'kms:remove-image',
  'add-mr': 'kms:add',
  'remove-mr': 'kms:remove',
  'add-device': 'kms:add-device',
  'set-gateway': 'kms:set-gateway',
  'set-admin': 'kms:set-owner',
  upgrade: 'kms:upgrade',
};

type Action = (values: string[], session: GovSession, view: GovView) => Promise<Call[]>;

/** What tasks do not do: with the number of values, and how they are written. */
const actions: Readonly<Record<string, { usage: string; values: number; calls: Action }>> = {
  'kms:upgrade': {
    ...{ usage: 'kms:upgrade IMPLEMENTATION', values: 1 },
    calls: ([code = ''], session) => upgrade(session, session.kms(), code, false),
  },
  'app:upgrade': {
    ...{ usage: 'app:upgrade APP_ID IMPLEMENTATION', values: 2 },
    calls: ([app = '', code = ''], session) => upgrade(session, addressValue('APP_ID', app), code, true),
  },
  'kms:set-owner': {
    ...{ usage: 'kms:set-owner ADDRESS', values: 1 },
    calls: async ([owner = ''], session) => [
      onContract(session.kms(), 'transferOwnership', [addressValue('ADDRESS', owner)]),
    ],
  },
  'app:set-owner': {
    ...{ usage: 'app:set-owner APP_ID ADDRESS', values: 2 },
    calls: async ([app = '', owner = '']) => [
      onContract(addressValue('APP_ID', app), 'transferOwnership', [addressValue('ADDRESS', owner)]),
    ],
  },
  'timelock:delay': {
    ...{ usage: 'timelock:delay SECONDS', values: 1 },
    calls: async ([seconds], _, view) => {
      const args = [BigInt(wholeNumber('SECONDS', seconds) ?? 0)] as const;
      return [onTimelock(view, encodeFunctionData({ abi: timelockAbi, functionName: 'updateDelay', args }))];
    },
  },
  'timelock:grant': {
    ...{ usage: 'timelock:grant proposer|canceller|executor ADDRESS', values: 2 },
    calls: async ([role, account], _, view) => [changeRole(view, 'grantRole', role, account)],
  },
  'timelock:revoke': {
    ...{ usage: 'timelock:revoke proposer|canceller|executor ADDRESS', values: 2 },
    calls: async ([role, account], _, view) => [changeRole(view, 'revokeRole', role, account)],
  },
  'signer:add': {
    ...{ usage: 'signer:add ADDRESS SIGNATURES', values: 2 },
    calls: async ([owner = '', count], _, view) =>
      onSafe(view, () => ['addOwnerWithThreshold', [addressValue('ADDRESS', owner), threshold(count)]]),
  },
  'signer:remove': {
    ...{ usage: 'signer:remove ADDRESS SIGNATURES', values: 2 },
    calls: async ([text = '', count], _, view) =>
      onSafe(view, (safe) => {
        const owner = addressValue('ADDRESS', text);
        return ['removeOwner', [previousOwner(safe, owner), owner, threshold(count)]];
      }),
  },
  'signer:swap': {
    ...{ usage: 'signer:swap OLD NEW', values: 2 },
    calls: async ([before = '', after = ''], _, view) =>
      onSafe(view, (safe) => {
        const owner = addressValue('OLD', before);
        return ['swapOwner', [previousOwner(safe, owner), owner, addressValue('NEW', after)]];
      }),
  },
  'signer:threshold': {
    ...{ usage: 'signer:threshold SIGNATURES', values: 1 },
    calls: async ([count], _, view) => onSafe(view, () => ['changeThreshold', [threshold(count)]]),
  },
  raw: {
    ...{ usage: 'raw TO DATA', values: 2 },
    calls: async ([to = '', data = '']) => {
      if (!/^0x([0-9a-fA-F]{2})*$/.test(data)) throw usage('DATA is hex with 0x');
      return [{ to: addressValue('TO', to), value: 0n, data: data as Hex }];
    },
  },
  batch: { ...{ usage: 'batch FILE', values: 1 }, calls: ([path = ''], session) => readBatch(path, session) },
};

/** The calls of actions that are separated by `+`. @throws CliError `usage` */
export async function callsOfWords(
  words: readonly string[],
  session: GovSession,
  view: GovView,
  allowDebug: boolean,
): Promise<Call[]> {
  const groups: string[][] = [[]];
  for (const word of words) {
    if (word === '+') groups.push([]);
    else groups.at(-1)?.push(word);
  }
  const calls: Call[] = [];
  for (const [given, ...values] of groups) {
    if (given === undefined) throw usage('An action is missing');
    const name = Object.hasOwn(aliases, given) ? (aliases[given] as string) : given;
    const action = Object.hasOwn(actions, name) ? actions[name] : undefined;
    if (action === undefined) {
      requireKnown(name);
      const call = await callOfTask([name, ...values], session.kms(), allowDebug);
      const { to, data } = unsignedOf(call);
      calls.push({ to, value: 0n, data });
    } else {
      if (values.length !== action.values) throw usage(`It is written ${action.usage}`);
      calls.push(...(await action.calls(values, session, view)));
    }
  }
  return calls;
}

/** @throws CliError `usage`, with the action that a mistyped one most likely means */
function requireKnown(name: string): void {
  const calls = Object.entries(tasks).flatMap(([task, one]) => ('call' in one ? [task] : []));
  if (Object.hasOwn(tasks, name)) return;
  const known = [...calls, ...Object.keys(actions), ...Object.keys(aliases)];
  const near = nearestName(name, known);
  throw new CliError('usage', `There is no action ${name}`, {
    exitCode: EXIT.usage,
    hint: near === undefined ? 'See dstack-cloud gov propose --help' : `Did you mean ${near}?`,
  });
}

/** The Timelock that owns DstackKms. */
function timelockOf({ governance }: GovView): TimelockState {
  const owner = governance.principals.get(governance.kms.owner.toLowerCase());
  if (owner?.kind === 'timelock') return owner.timelock;
  throw new CliError('refused', `DstackKms is owned by ${governance.kms.owner}, which is no Timelock`);
}

/** The Safe that governs: the owner, or the Timelock's proposer. */
export function safeOf({ governance }: GovView): SafeState {
  const owner = governance.principals.get(governance.kms.owner.toLowerCase());
  const candidates = owner?.kind === 'timelock' ? owner.timelock.roles.proposer : [governance.kms.owner];
  for (const address of candidates) {
    const found = governance.principals.get(address.toLowerCase());
    if (found?.kind === 'safe') return found.safe;
  }
  throw new CliError('refused', 'No Safe governs this domain', { found: candidates.join(', ') });
}

async function upgrade(session: GovSession, proxy: Address, text: string, isApp: boolean): Promise<Call[]> {
  const code = addressValue('IMPLEMENTATION', text);
  await implementationOf(session, proxy);
  if (isApp) await refuseOldLayout(session, proxy);
  await requireUups(session, code);
  return [onContract(proxy, 'upgradeToAndCall', [code, '0x'])];
}

function onContract(to: Address, functionName: string, args: readonly unknown[]): Call {
  return {
    to,
    value: 0n,
    data: encodeFunctionData({ abi: dstackKmsAbi as Abi, functionName, args: [...args] }),
  };
}

function onTimelock(view: GovView, data: Hex): Call {
  return { to: timelockOf(view).address, value: 0n, data };
}

function changeRole(view: GovView, functionName: 'grantRole' | 'revokeRole', role = '', account = ''): Call {
  if (role !== 'proposer' && role !== 'canceller' && role !== 'executor') {
    throw usage('A role is proposer, canceller or executor');
  }
  const args = [roleIds[role], addressValue('ADDRESS', account)] as const;
  return onTimelock(view, encodeFunctionData({ abi: timelockAbi, functionName, args }));
}

function onSafe(view: GovView, call: (safe: SafeState) => [string, readonly unknown[]]): Call[] {
  const safe = safeOf(view);
  const [functionName, args] = call(safe);
  const data = encodeFunctionData({ abi: safeAbi as Abi, functionName, args: [...args] });
  return [{ to: safe.address, value: 0n, data }];
}

function threshold(text: string | undefined): bigint {
  return BigInt(wholeNumber('SIGNATURES', text) ?? 0);
}

const batchSchema = z.looseObject({
  chainId: z.string(),
  transactions: z
    .array(
      z.looseObject({
        to: z.string().regex(/^0x[0-9a-fA-F]{40}$/),
        value: z.string().regex(/^\d{1,78}$/),
        data: z.string().regex(/^0x([0-9a-fA-F]{2})*$/),
      }),
    )
    .min(1)
    .max(256),
});

/** A file of Safe's transaction builder, as `--safe` of the tasks prints it. */
async function readBatch(path: string, session: GovSession): Promise<Call[]> {
  const { chain } = session;
  const text = new TextDecoder().decode(await readFileBounded(session.path(path), MAX_BATCH));
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new CliError('bad_argument', `${path} is no JSON`);
  }
  const parsed = batchSchema.safeParse(json);
  if (!parsed.success)
    throw new CliError('bad_argument', `${path} is no batch: ${z.prettifyError(parsed.error)}`);
  const { chainId, transactions } = parsed.data;
  if (chainId !== String(chain.chain.id)) {
    throw new CliError('bad_argument', `${path} is of another chain`, {
      ...{ expected: `chain ${chain.chain.id}`, found: `chain ${chainId}` },
    });
  }
  return transactions.map(({ to, value, data }) => ({
    to: to as Address,
    value: BigInt(value),
    data: data as Hex,
  }));
}

function usage(message: string): CliError {
  return new CliError('usage', message, {
    exitCode: EXIT.usage,
    hint: 'See dstack-cloud gov propose --help',
  });
}
