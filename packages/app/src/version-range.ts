/** Most comparators in one range. */
const MAX_COMPARATORS = 32;
const U64 = 0xffff_ffff_ffff_ffffn;

const NUMBER = '(?:0|[1-9][0-9]*)';
/** Identifiers of a pre-release and of build metadata: Semantic Versioning 2.0.0, clauses 9 and 10. */
const PRE = `(?:${NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)`;
const SUFFIX = `(?:-(?<pre>${PRE}(?:\\.${PRE})*))?(?:\\+[0-9A-Za-z-]+(?:\\.[0-9A-Za-z-]+)*)?`;
const VERSION = new RegExp(`^(?<major>${NUMBER})\\.(?<minor>${NUMBER})\\.(?<patch>${NUMBER})${SUFFIX}$`);
const COMPARATOR = new RegExp(
  `^(?<operator>>=|<=|[=><~^])? *(?<major>${NUMBER})` +
    `(?:\\.(?<minor>${NUMBER})(?:\\.(?<patch>${NUMBER})${SUFFIX}|(?<patchAny>\\.[*xX]))?|(?<minorAny>\\.[*xX](?:\\.[*xX])?))?$`,
);

/** A version by Semantic Versioning 2.0.0; build metadata plays no part in any comparison. */
export interface Version {
  readonly major: bigint;
  readonly minor: bigint;
  readonly patch: bigint;
  readonly pre: readonly string[];
}

interface Comparator {
  readonly operator: '=' | '>' | '>=' | '<' | '<=' | '~' | '^';
  readonly major: bigint;
  readonly minor: bigint | undefined;
  readonly patch: bigint | undefined;
  readonly pre: readonly string[];
}

/** All comparators must hold; an empty list is `*`. */
export type VersionRange = readonly Comparator[];

/** Reads a full version, `major.minor.patch` with its suffixes. */
export function parseVersion(text: string): Version | undefined {
  const found = VERSION.exec(text)?.groups;
  if (found === undefined) return undefined;
  const [major, minor, patch] = [integer(found['major']), integer(found['minor']), integer(found['patch'])];
  if (major === undefined || minor === undefined || patch === undefined) return undefined;
  return { major, minor, patch, pre: identifiers(found['pre']) };
}

/**
 * Reads a version requirement as Cargo defines it: comparators separated by commas, a bare version is a caret, `*` in
 * place of the last parts. Undefined when it is none; an empty text is none.
 */
export function parseVersionRange(text: string): VersionRange | undefined {
  if (/^ *[*xX] *$/.test(text)) return [];
  const parts = text.split(',');
  if (parts.length > MAX_COMPARATORS) return undefined;
  const comparators = parts.map((part) => parseComparator(part.replace(/^ +| +$/g, '')));
  return comparators.includes(undefined) ? undefined : (comparators as Comparator[]);
}

function parseComparator(text: string): Comparator | undefined {
  const found = COMPARATOR.exec(text)?.groups;
  const major = integer(found?.['major']);
  if (found === undefined || major === undefined) return undefined;
  const [minor, patch] = [integer(found['minor']), integer(found['patch'])];
  if ((found['minor'] && minor === undefined) || (found['patch'] && patch === undefined)) return undefined;
  const wildcard = found['minorAny'] !== undefined || found['patchAny'] !== undefined;
  const operator = (found['operator'] ?? (wildcard ? '=' : '^')) as Comparator['operator'];
  return { operator, major, minor, patch, pre: identifiers(found['pre']) };
}

function integer(text: string | undefined): bigint | undefined {
  if (text === undefined || text.length > 20) return undefined;
  const value = BigInt(text);
  return value <= U64 ? value : undefined;
}

function identifiers(text: string | undefined): readonly string[] {
  return text === undefined ? [] : text.split('.');
}

/** Whether a version lies in a range. A pre-release lies only in a range that names one of the same version. */
export function satisfies(version: Version, range: VersionRange): boolean {
  if (!range.every((comparator) => holds(version, comparator))) return false;
  if (version.pre.length === 0) return true;
  return range.some(
    ({ major, minor, patch, pre }) =>
      pre.length > 0 && major === version.major && minor === version.minor && patch === version.patch,
  );
}

function holds(version: Version, wanted: Comparator): boolean {
  const order = compare(version, wanted);
  // Where the comparator leaves parts out, only a caret takes a pre-release as equal.
  const equal = order === 0 && (wanted.patch !== undefined || version.pre.length === 0);
  switch (wanted.operator) {
    case '=':
      return equal;
    case '>':
      return order > 0;
    case '>=':
      return equal || order > 0;
    case '<':
      return order < 0;
    case '<=':
      return equal || order < 0;
    case '~':
      return (equal || order > 0) && samePart(version, wanted, 'minor');
    case '^':
      return order >= 0 && samePart(version, wanted, breakingPart(wanted));
  }
}

/** A part that the comparator leaves out equals any. */
function compare(version: Version, wanted: Comparator): number {
  for (const part of ['major', 'minor', 'patch'] as const) {
    const bound = wanted[part];
    if (bound === undefined) return 0;
    if (version[part] !== bound) return version[part] < bound ? -1 : 1;
  }
  return comparePre(version.pre, wanted.pre);
}

function samePart(version: Version, wanted: Comparator, last: 'major' | 'minor' | 'patch'): boolean {
  for (const part of ['major', 'minor', 'patch'] as const) {
    if (wanted[part] !== undefined && version[part] !== wanted[part]) return false;
    if (part === last) return true;
  }
  return true;
}

/** The leftmost part that is not zero must stay; `^0.0.3` is that version alone, `^0.0` any patch of it. */
function breakingPart({ major, minor }: Comparator): 'major' | 'minor' | 'patch' {
  if (major !== 0n || minor === undefined) return 'major';
  return minor === 0n ? 'patch' : 'minor';
}

/** Semantic Versioning 2.0.0, clause 11: a pre-release comes before its version, numbers before words. */
function comparePre(a: readonly string[], b: readonly string[]): number {
  if (a.length === 0 || b.length === 0) return b.length - a.length;
  for (let at = 0; at < Math.min(a.length, b.length); at++) {
    const [left, right] = [a[at] as string, b[at] as string];
    if (left === right) continue;
    const [leftNumber, rightNumber] = [/^[0-9]+$/.test(left), /^[0-9]+$/.test(right)];
    if (leftNumber !== rightNumber) return leftNumber ? -1 : 1;
    if (leftNumber && left.length !== right.length) return left.length - right.length;
    return left < right ? -1 : 1;
  }
  return a.length - b.length;
}
