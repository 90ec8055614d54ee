/** Comparators of one range; more is a mistake. */
const MAX_COMPARATORS = 16;

type Version = readonly [number, number, number];

function parseVersion(text: string): Version | undefined {
  const found = /^v?(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?(?:[-+].*)?$/.exec(text.trim());
  return found ? [Number(found[1]), Number(found[2] ?? 0), Number(found[3] ?? 0)] : undefined;
}

function compare(a: Version, b: Version): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
}

/**
 * Whether a version lies in a semver range: comparators `= > >= < <= ^ ~`, all of which must hold, separated by commas
 * or blanks. A range that cannot be read is never satisfied.
 */
export function satisfies(version: string, range: string): boolean {
  const actual = parseVersion(version);
  const comparators = range
    .replace(/([<>=^~])\s+/g, '$1')
    .split(/[\s,]+/)
    .filter(Boolean);
  if (actual === undefined || comparators.length === 0 || comparators.length > MAX_COMPARATORS) return false;
  return comparators.every((comparator) => holds(actual, comparator));
}

function holds(actual: Version, comparator: string): boolean {
  if (comparator === '*') return true;
  const found = /^(>=|<=|>|<|=|\^|~)?(.+)$/.exec(comparator);
  const wanted = found?.[2] === undefined ? undefined : parseVersion(found[2]);
  if (wanted === undefined) return false;
  const order = compare(actual, wanted);
  switch (found?.[1]) {
    case '>=':
      return order >= 0;
    case '<=':
      return order <= 0;
    case '>':
      return order > 0;
    case '<':
      return order < 0;
    case '=':
      return order === 0;
    case '~':
      return order >= 0 && actual[0] === wanted[0] && actual[1] === wanted[1];
    default:
      return order >= 0 && sameBreakingPart(actual, wanted);
  }
}

/** A bare version means caret, as in Cargo: the leftmost non-zero part must stay. */
function sameBreakingPart(a: Version, b: Version): boolean {
  if (b[0] !== 0) return a[0] === b[0];
  if (b[1] !== 0) return a[0] === 0 && a[1] === b[1];
  return compare(a, b) === 0;
}
