import type { Governance } from './read-governance.ts';

/** Where two readings of one block differ, or undefined. */
export function sameGovernance(
  one: Governance,
  other: Governance,
): { what: string; one: string; other: string } | undefined {
  const [first, second] = [partsOf(one), partsOf(other)];
  for (const what of new Set([...first.keys(), ...second.keys()])) {
    const [a, b] = [first.get(what) ?? 'nothing', second.get(what) ?? 'nothing'];
    if (a !== b) return { what, one: a.slice(0, 2000), other: b.slice(0, 2000) };
  }
  return undefined;
}

function partsOf({ chainId, block, kms, apps, otherApps, principals }: Governance): Map<string, string> {
  return new Map([
    ['the chain id', String(chainId)],
    [`block ${block.number}`, block.hash],
    ['DstackKms', text(kms)],
    ...apps.map((app) => [`app ${app.address}`, text(app)] as const),
    ['the registered addresses', text(otherApps)],
    ...[...principals.values()].map((one) => [`what ${one.address} is`, text(one)] as const),
  ]);
}

const text = (value: unknown): string =>
  JSON.stringify(value, (_, one: unknown) => (typeof one === 'bigint' ? one.toString() : one));
