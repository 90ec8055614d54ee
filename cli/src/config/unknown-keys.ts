import { nearestName } from '@dstack-cloud/encoding';

/** Names the keys that nobody reads, with the nearest known one; `_comment…` keys are comments. */
export function unknownKeys(
  value: Readonly<Record<string, unknown>>,
  known: Readonly<Record<string, readonly string[]>>,
): string[] {
  const found: string[] = [];
  for (const [section, names] of Object.entries(known)) {
    const object = section === '' ? value : value[section];
    if (typeof object !== 'object' || object === null) continue;
    for (const key of Object.keys(object)) {
      if (names.includes(key) || key.startsWith('_comment')) continue;
      const nearest = nearestName(key, names);
      const full = section === '' ? key : `${section}.${key}`;
      found.push(`unknown key ${full}${nearest === undefined ? '' : `; did you mean ${nearest}?`}`);
    }
  }
  return found;
}
