/** The longest of these zones that a name lies in; undefined when there is none. Names have no final dot. */
export function zoneOf<T extends { readonly name: string }>(
  name: string,
  zones: readonly T[],
): T | undefined {
  const lower = name.toLowerCase();
  return zones
    .filter(({ name: zone }) => lower === zone.toLowerCase() || lower.endsWith(`.${zone.toLowerCase()}`))
    .sort((one, other) => other.name.length - one.name.length)[0];
}
