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
    'images' | 'measurements' | 'devices' | 'apps' | 'operations' | 'changes',
    (observer: Observer) => Row[]
  >
> = {
  images: allowances(({ model }) => model.kms.images),
  measurements: allowances(({ model }) => model.kms.measurements),
  devices: allowances(({ model }) => model.kms.devices),
  apps,
  operations,
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

function apps({ model, mutedApps }: Observer): Row[] {
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
      devices: app.allowAnyDevice ? null : app.devices.size,
      composeHashes: [...app.composeHashes]
        .slice(-MAX_HASHES)
        .map(([value, { notAfter }]) => ({ value, notAfter })),
      moreHashes: Math.max(0, app.composeHashes.size - MAX_HASHES),
    }));
}

/** Pending ones first, the one that is ready soonest at the top. */
function operations({ model, known, now }: Observer): Row[] {
  const all = [...model.timelocks].flatMap(([timelock, { operations: some }]) =>
    [...some.values()].map((operation) => ({ timelock, operation })),
  );
  const pending = all.filter(({ operation }) => operation.state === 'pending');
  const ended = all.filter(({ operation }) => operation.state !== 'pending');
  pending.sort((a, b) => a.operation.readyAt - b.operation.readyAt);
  ended.sort((a, b) => (b.operation.ended?.time ?? 0) - (a.operation.ended?.time ?? 0));
  return [...pending, ...ended].map(({ timelock, operation }) => () => {
    const { id, state, readyAt, delay, scheduled, ended: end, calls } = operation;
    return {
      ...{ timelock, id, readyAt, delay, scheduled },
      state: state === 'pending' ? (readyAt <= now ? 'ready' : 'waiting') : state,
      ended: end ?? null,
      lines: calls.flatMap((call) => callLines(callInWords(call, known))).slice(0, MAX_LINES),
    };
  });
}
