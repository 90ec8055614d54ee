/** Longer names are compared by their beginnings: whoever mistypes a name gives it. */
const MAX_LENGTH = 64;

/** The known name that a mistyped one most likely means; undefined when none is close. */
export function nearestName(wrong: string, known: readonly string[]): string | undefined {
  const word = wrong.slice(0, MAX_LENGTH);
  const limit = Math.max(2, word.length / 3);
  let best: { name: string; distance: number } | undefined;
  for (const name of known) {
    const distance = editDistance(word, name.slice(0, MAX_LENGTH));
    if (distance <= limit && (!best || distance < best.distance)) best = { name, distance };
  }
  return best?.name;
}

/** Levenshtein distance, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, replaced));
    }
    row = next;
  }
  return row[b.length]!;
}
