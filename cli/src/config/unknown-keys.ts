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

/** The most similar name, when it is similar enough to be a slip. */
function nearestName(word: string, names: readonly string[]): string | undefined {
  const scored = names.map((name) => ({ name, distance: editDistance(word, name) }));
  scored.sort((a, b) => a.distance - b.distance);
  const best = scored[0];
  return best !== undefined && best.distance <= Math.max(2, word.length / 3) ? best.name : undefined;
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const change = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}
