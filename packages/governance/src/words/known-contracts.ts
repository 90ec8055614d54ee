import type { Address } from 'viem';
import type { Governance } from '../state/read-governance.ts';

/** What a target is: it decides how a call to it is read. */
export type ContractKind = 'kms' | 'app' | 'timelock' | 'safe' | 'multi-send';

/** A contract with the name that people see. */
export type KnownContract = { readonly kind: ContractKind; readonly name: string };

/** By lower-case address. */
export type KnownContracts = ReadonlyMap<string, KnownContract>;

/** The contracts of a domain, and the batch contracts that its Safes use. */
export function knownContracts(
  { kms, apps, principals }: Governance,
  multiSend: readonly Address[] = [],
): KnownContracts {
  const known = new Map<string, KnownContract>([
    [kms.address.toLowerCase(), { kind: 'kms', name: 'DstackKms' }],
  ]);
  for (const { address } of apps) known.set(address.toLowerCase(), { kind: 'app', name: `app ${address}` });
  for (const [key, { kind, address }] of principals) {
    if (kind === 'timelock') known.set(key, { kind, name: `Timelock ${address}` });
    if (kind === 'safe') known.set(key, { kind, name: `Safe ${address}` });
  }
  for (const address of multiSend) {
    known.set(address.toLowerCase(), { kind: 'multi-send', name: 'the batch contract of Safe' });
  }
  return known;
}
