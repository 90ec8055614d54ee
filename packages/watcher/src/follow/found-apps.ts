import type { ContractKind, KnownContract, KnownContracts } from '@dstack-cloud/governance';
import type { Alert } from '../alerts/alert.ts';
import type { GovernanceEvent } from '../events/governance-event.ts';
import { argument } from '../model/apply-contract.ts';
import type { Source } from '../state/watch-state.ts';

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
