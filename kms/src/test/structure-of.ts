/**
 * A JSON value with its names and kinds but without what two KMSs cannot share: hex becomes its length, other text
 * `text`, numbers `number`.
 * @param without members that only ours has, documented as extras
 */
export function structureOf(value: unknown, without: readonly string[] = []): unknown {
  if (Array.isArray(value)) return value.map((entry) => structureOf(entry, without));
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(
      Object.entries(value)
        .filter(([name]) => !without.includes(name))
        .map(([name, entry]) => [name, structureOf(entry, without)]),
    );
  }
  if (typeof value === 'number') return 'number';
  if (typeof value !== 'string') return value;
  // Evidence of one machine is not as long as that of another.
  if (/^([0-9a-f]{2})+$/.test(value)) return value.length > 200 ? 'long hex' : `hex ${value.length / 2}`;
  return 'text';
}
