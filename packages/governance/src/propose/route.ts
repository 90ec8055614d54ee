import { type Address, isAddressEqual } from 'viem';
import { GovernanceError } from '../errors.ts';
import type { SafeState } from '../safe/read-safe.ts';
import type { Governance, Principal } from '../state/read-governance.ts';
import type { Call } from '../timelock/operation.ts';
import type { TimelockState } from '../timelock/read-timelock.ts';
import type { TimelockRole } from '../timelock/roles.ts';

/** How calls come to be made: by whom in the end, through which Timelock, and who has to start it. */
export type Route = {
  /** Makes the calls: they are simulated as from here. */
  readonly authority: Address;
  /** The calls have to be scheduled in it first. */
  readonly timelock: TimelockState | undefined;
  /** Its signers have to sign what starts it; undefined when one account starts it. */
  readonly safe: SafeState | undefined;
  /** Accounts that can start it alone. */
  readonly accounts: readonly Address[];
};

/** @throws GovernanceError `not-allowed` when nobody known can, `bad-input` when the calls have different authorities */
export function routeOf(governance: Governance, calls: readonly Call[]): Route {
  const authorities = new Map(
    calls.map(({ to }) => {
      const authority = authorityOver(governance, to);
      return [authority.address.toLowerCase(), authority] as const;
    }),
  );
  const [authority, ...others] = authorities.values();
  if (authority === undefined) throw new GovernanceError('bad-input', 'There is nothing to propose');
  if (others.length > 0) {
    throw new GovernanceError(
      'bad-input',
      'The calls belong to different owners, which do not act together',
      {
        found: [authority, ...others].map(({ address }) => address).join(', '),
        hint: 'Make one proposal for each owner',
      },
    );
  }
  if (authority.kind !== 'timelock') return startedBy(authority, undefined);
  const { timelock } = authority;
  return { ...starters(governance, timelock, 'proposer'), authority: authority.address, timelock };
}

/** Calls that belong together: their contracts have one owner. */
export type CallGroup<T extends Call> = { readonly route: Route; readonly calls: readonly T[] };

/**
 * One group for each owner, in the order of the calls.
 * @param contractOf the contract whose owner makes a call, where that is another than the call's target
 * @throws GovernanceError as `routeOf`
 */
export function groupByAuthority<T extends Call>(
  governance: Governance,
  calls: readonly T[],
  contractOf: (call: T) => Address = ({ to }) => to,
): CallGroup<T>[] {
  const groups = new Map<string, { route: Route; calls: T[] }>();
  for (const call of calls) {
    const route = routeOf(governance, [{ ...call, to: contractOf(call) }]);
    const key = route.timelock?.address ?? route.authority;
    const group = groups.get(key.toLowerCase()) ?? { route, calls: [] };
    group.calls.push(call);
    groups.set(key.toLowerCase(), group);
  }
  return [...groups.values()];
}

/** How a step of the Timelock itself is made: cancel by a canceller, execute by an executor. */
export function stepRoute(governance: Governance, timelock: TimelockState, role: TimelockRole): Route {
  return starters(governance, timelock, role);
}

function authorityOver(governance: Governance, target: Address): Principal {
  const itself = governance.principals.get(target.toLowerCase());
  // A Timelock and a Safe are changed by calls to themselves.
  if (itself?.kind === 'timelock' || itself?.kind === 'safe') return itself;
  const contract = [governance.kms, ...governance.apps].find(({ address }) =>
    isAddressEqual(address, target),
  );
  if (contract === undefined) {
    throw new GovernanceError('bad-input', `${target} is no contract of this domain`, {
      hint: 'Name apps with --app, and check the address',
    });
  }
  const owner = governance.principals.get(contract.owner.toLowerCase());
  if (owner !== undefined) return owner;
  throw new GovernanceError('not-allowed', `${target} has no owner: nobody can change it`);
}

function starters({ principals }: Governance, timelock: TimelockState, role: TimelockRole): Route {
  const holders = timelock.roles[role].map((address) => principals.get(address.toLowerCase()));
  const safe = holders.find((one) => one?.kind === 'safe');
  const accounts = holders.filter((one) => one?.kind === 'account').map((one) => (one as Principal).address);
  if (safe === undefined && accounts.length === 0 && !(role === 'executor' && timelock.isOpen)) {
    throw new GovernanceError(
      'not-allowed',
      `No account or Safe is ${role} of Timelock ${timelock.address}`,
      {
        found: timelock.roles[role].join(', ') || 'nobody',
      },
    );
  }
  return { authority: safe?.address ?? timelock.address, timelock: undefined, safe: safe?.safe, accounts };
}

function startedBy(principal: Principal, timelock: TimelockState | undefined): Route {
  const { address: authority } = principal;
  if (principal.kind === 'safe') return { authority, timelock, safe: principal.safe, accounts: [] };
  if (principal.kind === 'account') return { authority, timelock, safe: undefined, accounts: [authority] };
  throw new GovernanceError(
    'not-allowed',
    `The owner ${authority} is a contract that is neither a Safe nor a Timelock`,
    {
      hint: 'Use its own tools',
    },
  );
}
