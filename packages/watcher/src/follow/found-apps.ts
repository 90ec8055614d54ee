import type { ContractKind, KnownContract, KnownContracts } from '@dstack-cloud/governance';
import type { Alert } from '../alerts/alert.ts';
import type { GovernanceEvent } from '../events/governance-event.ts';
import { argument } from '../model/apply-contract.ts';
import type { GovernanceModel } from '../model/governance-model.ts';
import type { Source } from '../state/watch-state.ts';

/** Events that are kept of an app that nobody listed, and of all of these together: anybody can register one. */
const MAX_OF_ONE = 500;
const MAX_OF_ALL = 50_000;

/** Apps that were registered are followed from there on. */
export function discoveredApps(
  events: readonly GovernanceEvent[],
  sources: Readonly<Record<string, Source>>,
  maxApps: number,
): { readonly sources: Record<string, Source>; readonly alerts: Alert[] } {
  const found: Record<string, Source> = {};
  const alerts: Alert[] = [];
  const count = Object.values(sources).filter(({ kind, listed }) => kind === 'app' && !listed).length;
  for (const event of events) {
    if (event.source !== 'kms' || event.name !== 'AppRegistered') continue;
    const address = argument(event, 'appId');
    if (Object.hasOwn(sources, address) || Object.hasOwn(found, address)) continue;
    if (count + Object.keys(found).length >= maxApps) {
      alerts.push({
        id: 'too-many-apps',
        rule: 'too-many-apps',
        severity: 'warning',
        text: `More than ${maxApps} apps are registered: further ones are only followed when they are listed in apps`,
        time: event.time,
        block: event.block,
      });
      continue;
    }
    found[address] = {
      kind: 'app',
      next: event.block,
      alertsFrom: event.history ? sources[event.address]!.alertsFrom : event.block,
      listed: false,
    };
  }
  return { sources: found, alerts };
}

/**
 * Leaves out what apps that nobody listed write beyond their measure, and follows them no further; also what changes nothing
 * and anybody can cause without end: the journal is bounded.
 */
export function withinLimits(
  events: readonly GovernanceEvent[],
  sources: Readonly<Record<string, Source>>,
  model: GovernanceModel,
): { readonly kept: GovernanceEvent[]; readonly muted: Map<string, string>; readonly alerts: Alert[] } {
  const counts = new Map<string, number>();
  let all = 0;
  for (const [address, { kind, listed }] of Object.entries(sources))
    if (kind === 'app' && !listed) all += model.eventsOf(address);
  const over = new Set<string>();
  const isNews = newsFilter(model);
  const kept = events.filter((event) => {
    const { address } = event;
    if (!isNews(event)) return false;
    if (sources[address]!.listed) return true;
    const count = (counts.get(address) ?? model.eventsOf(address)) + 1;
    counts.set(address, count);
    all += 1;
    if (count <= MAX_OF_ONE && all <= MAX_OF_ALL) return true;
    over.add(address);
    return false;
  });
  const { muted, alerts } = mute([...over], `it has more events than are kept (${MAX_OF_ONE})`);
  return { kept, muted: new Map([...over].map((address) => [address, muted])), alerts };
}

/** False for an app that is registered once more, and for money that a Safe gets. */
function newsFilter({ apps }: GovernanceModel): (event: GovernanceEvent) => boolean {
  const registered = new Set<string>();
  return (event) => {
    if (event.source === 'safe') return event.name !== 'SafeReceived';
    if (event.source !== 'kms' || event.name !== 'AppRegistered') return true;
    const app = argument(event, 'appId');
    const isNew = apps.get(app)?.registered !== true && !registered.has(app);
    registered.add(app);
    return isNew;
  };
}

/** @param why for people */
export function mute(
  addresses: readonly string[],
  why: string,
): { readonly muted: string; readonly alerts: Alert[] } {
  const alerts = addresses.map(
    (contract): Alert => ({
      id: `${contract}/app-muted`,
      rule: 'app-muted',
      severity: 'warning',
      text: `App ${contract} is not followed any further: ${why}. List it in apps to follow it`,
      time: Math.floor(Date.now() / 1_000),
      contract,
    }),
  );
  return { muted: why, alerts };
}

const NAMES: Readonly<Record<ContractKind, string>> = {
  kms: 'DstackKms',
  app: 'app',
  timelock: 'Timelock',
  safe: 'Safe',
  'multi-send': 'the batch contract of Safe',
};

/** The followed contracts, as calls to them are read. */
export function knownContracts(
  sources: Readonly<Record<string, Source>>,
  multiSend: readonly string[],
): KnownContracts {
  const known = new Map<string, KnownContract>();
  for (const [address, { kind }] of Object.entries(sources))
    known.set(address, { kind, name: kind === 'kms' ? NAMES.kms : `${NAMES[kind]} ${address}` });
  for (const address of multiSend)
    known.set(address.toLowerCase(), { kind: 'multi-send', name: NAMES['multi-send'] });
  return known;
}
