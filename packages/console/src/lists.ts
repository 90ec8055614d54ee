import { callLines } from '@dstack-cloud/governance';
import { type Allowance, callInWords, type Observer } from '@dstack-cloud/watcher';

/** Rows of one page. */
const PAGE = 10;
/** Hashes of one app that are shown. */
const MAX_HASHES = 10;
const MAX_LINES = 40;

export type ListName = keyof typeof LISTS;

/** A page of a list; one beyond the end is the last. */
export function listOf(observer: Observer, name: ListName, wanted: number): object {
  const all = LISTS[name](observer);
  const pages = Math.max(1, Math.ceil(all.length / PAGE));
  const page = Math.min(Math.max(1, wanted), pages);
  const items = all.slice((page - 1) * PAGE, page * PAGE).map((make) => make());
  return { name, page, pages, total: all.length, items };
}

/** Rows are made when they are shown. */
type Row = () => object;

const allowances =
  (of: (observer: Observer) => ReadonlyMap<string, Allowance>) =>
  (observer: Observer): Row[] =>
    [...of(observer)].reverse().map(([value, { time, tx, notAfter }]) => () => ({
      value,
      since: time,
      tx,
      notAfter,
    }));

export const LISTS: Readonly<
  Record<
    'images' | 'measurements' | 'devices' | 'apps' | 'operations' | 'transactions' | 'changes',
    (observer: Observer) => Row[]
  >
> = {
  images: allowances(({ model }) => model.kms.images),
  measurements: allowances(({ model }) => model.kms.measurements),
  devices: allowances(({ model }) => model.kms.devices),
  apps,
  operations,
  transactions,
  changes: ({ changes }) =>
    changes.toReversed().map(({ time, block, transaction, contract, actor, severity, rule, text }) => () => ({
      time,
      block,
      transaction,
      contract,
      actor,
      severity,
      rule,
      text,
    })),
};

function apps({ model, mutedApps, knownApps }: Observer): Row[] {
  return [...model.apps]
    .filter(([, { registered }]) => registered)
    .reverse()
    .map(([address, app]) => () => ({
      address,
      owner: app.owner,
      implementation: app.implementation,
      blocked: app.blocked,
      notAfter: app.notAfter,
      upgradesDisabled: app.upgradesDisabled,
      // What came before the registration of a contract that the factory did not make is not known.
      complete: app.fromFactory,
      muted: mutedApps.has(address),
      known: knownApps.has(address),
      devices: app.allowAnyDevice ? null : app.devices.size,
      composeHashes: [...app.composeHashes]
        .slice(-MAX_HASHES)
        .map(([value, { notAfter }]) => ({ value, notAfter })),
      moreHashes: Math.max(0, app.composeHashes.size - MAX_HASHES),
    }));
}

/** Pending ones first, the one that is ready soonest at the top. */
function operations({ model, known, now, announced }: Observer): Row[] {
  const words = (calls: readonly ScheduledCall[]): string[] =>
    calls.flatMap((call) => callLines(callInWords(call, known))).slice(0, MAX_LINES);
  const pendingState = (readyAt: number): string => (readyAt <= now ? 'ready' : 'waiting');
  const all = [...model.timelocks.values()].flatMap(({ operations: some }) => [...some.values()]);
  const ofTimelock = (operation: (typeof all)[number]): Row => {
    const { id, state, readyAt, delay, scheduled, ended, calls } = operation;
    return () => ({
      ...{ kind: 'scheduled', id, readyAt, delay, by: scheduled.sender, ended: ended ?? null },
      state: state === 'pending' ? pendingState(readyAt) : state,
      lines: words(calls),
    });
  };
  const pending = [
    ...all
      .filter(({ state }) => state === 'pending')
      .map((operation) => ({ readyAt: operation.readyAt, row: ofTimelock(operation) })),
    ...announced.map(({ callHash, contract, call, readyAt, delay, sender }) => ({
      readyAt,
      row: () => ({
        ...{ kind: 'announced', id: callHash, readyAt, delay, by: sender, ended: null },
        state: pendingState(readyAt),
        lines: words([{ target: contract, value: '0', data: call }]),
      }),
    })),
  ];
  pending.sort((a, b) => a.readyAt - b.readyAt);
  const ended = all.filter(({ state }) => state !== 'pending');
  ended.sort((a, b) => (b.ended?.time ?? 0) - (a.ended?.time ?? 0));
  return [...pending.map(({ row }) => row), ...ended.map(ofTimelock)];
}

/** What waits at the Safe transaction service, by Safe and nonce. */
function transactions({ waiting, known, model }: Observer): Row[] {
  const sorted = waiting.toSorted((a, b) => a.safe.localeCompare(b.safe) || Number(a.tx.nonce - b.tx.nonce));
  return sorted.map((one) => () => {
    const { safe, hash, tx, signers, approvedBy, since } = one;
    const { threshold, owners } = model.safe(safe);
    const agreed = [...new Set([...signers, ...approvedBy])];
    const ofSafe = waiting.filter((other) => other.safe === safe);
    const isNext = ofSafe.every((other) => other.tx.nonce >= tx.nonce);
    const call = { target: tx.to, value: tx.value.toString(), data: tx.data, operation: tx.operation };
    return {
      ...{ safe, hash, since, nonce: tx.nonce.toString(), threshold, owners: owners.size },
      state: agreed.length < threshold ? 'signing' : isNext ? 'ready' : 'waiting',
      rivals: ofSafe.filter((other) => other.tx.nonce === tx.nonce).length - 1,
      agreed: agreed.map((address) => ({ address, onChain: approvedBy.includes(address) })),
      lines: callLines(callInWords(call, known)).slice(0, MAX_LINES),
    };
  });
}

type ScheduledCall = { readonly target: string; readonly value: string; readonly data: string };
