import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseVersion, parseVersionRange, satisfies } from './version-range.ts';

/** `undefined` when either text is none. */
function inRange(version: string, range: string): boolean | undefined {
  const [parsed, wanted] = [parseVersion(version), parseVersionRange(range)];
  return parsed && wanted && satisfies(parsed, wanted);
}

/** Range, versions inside, versions outside: the cases by which Cargo's requirements are documented and tested. */
const CASES: readonly (readonly [string, string, string])[] = [
  ['1.0.0', '1.0.0 1.1.0 1.0.1', '0.9.9 0.10.0 0.1.0 1.0.0-pre 1.0.1-pre 2.0.0'],
  ['=1.0.0', '1.0.0 1.0.0+meta', '1.0.1 0.9.9 0.10.0 0.1.0 1.0.0-pre'],
  ['=0.1.0-beta2.a', '0.1.0-beta2.a', '0.9.1 0.1.0 0.1.1-beta2.a 0.1.0-beta2'],
  ['=1', '1.0.0 1.9.3', '2.0.0 0.9.0 1.0.0-pre'],
  ['=1.2', '1.2.0 1.2.9', '1.3.0 1.1.9'],
  ['>= 1.0.0', '1.0.0 2.0.0', '0.1.0 0.0.1 1.0.0-pre 2.0.0-pre'],
  [
    '>= 2.1.0-alpha2',
    '2.1.0-alpha2 2.1.0-alpha3 2.1.0 3.0.0',
    '2.0.0 2.1.0-alpha1 2.0.0-alpha2 3.0.0-alpha2',
  ],
  ['>1', '2.0.0', '1.0.0 1.9.9'],
  ['>1.2', '1.3.0 2.0.0', '1.2.9 1.2.0'],
  ['<1.0.0', '0.1.0 0.0.1', '1.0.0 1.0.0-beta 1.0.1 0.9.9-alpha'],
  ['<=1', '1.9.9 0.1.0', '2.0.0'],
  [
    '<= 2.1.0-alpha2',
    '2.1.0-alpha2 2.1.0-alpha1 2.0.0 1.0.0',
    '2.1.0 2.2.0-alpha1 2.0.0-alpha2 1.0.0-alpha2',
  ],
  ['>1.0.0-alpha, <1.0.0', '1.0.0-beta', '1.0.0 0.9.0'],
  ['>1.0.0-alpha, <1.0', '', '1.0.0-beta'],
  ['> 0.0.9, <= 2.5.3', '0.0.10 1.0.0 2.5.3', '0.0.8 2.5.4'],
  ['0.3.0, 0.4.0', '', '0.0.8 0.3.0 0.4.0'],
  ['0.1.0, 0.1.4, 0.1.6', '0.1.6 0.1.9', '0.1.0 0.1.4 0.2.0'],
  [
    '>=0.5.1-alpha3, <0.6',
    '0.5.1-alpha3 0.5.1-alpha4 0.5.1-beta 0.5.1 0.5.5',
    '0.5.1-alpha1 0.5.2-alpha3 0.5.5-pre 0.6.0 0.6.0-pre',
  ],
  ['~1', '1.0.0 1.0.1 1.1.1', '0.9.1 2.9.0 0.0.9'],
  ['~1.2', '1.2.0 1.2.1', '1.1.1 1.3.0 0.0.9'],
  ['~1.2.2', '1.2.2 1.2.4', '1.2.1 1.9.0 1.0.9 2.0.1 0.1.3'],
  ['~1.2.3-beta.2', '1.2.3 1.2.4 1.2.3-beta.2 1.2.3-beta.4', '1.3.3 1.1.4 1.2.3-beta.1 1.2.4-beta.2'],
  ['^1', '1.1.2 1.1.0 1.2.1 1.0.1', '0.9.1 2.9.0 0.1.4 1.0.0-beta1 0.1.0-alpha 1.0.1-pre'],
  ['^1.1', '1.1.2 1.1.0 1.2.1', '0.9.1 2.9.0 1.0.1 0.1.4'],
  ['^1.1.2', '1.1.2 1.1.4 1.2.1', '0.9.1 2.9.0 1.1.1 0.0.1 1.1.2-alpha1 1.1.3-alpha1'],
  ['^0.1.2', '0.1.2 0.1.4', '0.9.1 2.9.0 1.1.1 0.0.1 0.1.2-beta 0.1.3-alpha 0.2.0-pre'],
  [
    '^0.5.1-alpha3',
    '0.5.1-alpha3 0.5.1-alpha4 0.5.1-beta 0.5.1 0.5.5',
    '0.5.1-alpha1 0.5.2-alpha3 0.5.5-pre 0.6.0',
  ],
  ['^0.0.2', '0.0.2', '0.9.1 2.9.0 1.1.1 0.0.1 0.1.4 0.0.3'],
  ['^0.0', '0.0.2 0.0.0', '0.9.1 2.9.0 1.1.1 0.1.4'],
  ['^0', '0.9.1 0.0.2 0.0.0', '2.9.0 1.1.1'],
  [
    '^1.4.2-beta.5',
    '1.4.2 1.4.3 1.4.2-beta.5 1.4.2-beta.6 1.4.2-c',
    '0.9.9 2.0.0 1.4.2-alpha 1.4.2-beta.4 1.4.3-beta.5',
  ],
  ['*', '0.9.1 2.9.0 0.0.9', '1.0.0-pre'],
  [' X ', '0.9.1 2.9.0', '1.0.0-pre'],
  ['1.*', '1.2.0 1.2.1 1.3.0', '0.0.9 2.0.0 1.2.0-pre'],
  ['1.*.*', '1.2.0', '2.0.0'],
  ['1.2.x', '1.2.0 1.2.2', '1.9.0 1.0.9 2.0.1 1.2.2-pre'],
  ['>=1.*', '1.0.0 3.0.0', '0.9.0'],
  ['>=0.6, <0.8', '0.6.0 0.7.9', '0.5.9 0.8.0'],
];

/** What Cargo does not read as a requirement. */
const NO_RANGES = [
  '', ' ', '> 0.1.0,', '> 0.3.0, ,', '1.2.3 - 2.3.4', '> 0.0.9 <= 2.5.3', '=1.2.3 || =2.3.4', '>= >= 0.0.2', '>== 0.0.2',
  'a.0.0', '1.0.0-', '>=', '1.', '1.*.', '*.1', '*.*', '1.*.1', '>=1.*.1', '*, 0.20.0-any', '0.20.0-any, *', '01.0.0', '1.02',
  '1.2.3-01', '1.2.3+', '1.2.3+4.', '1.2-alpha', 'v1.0.0', 'latest', '1.0.0\n', '\t1', '18446744073709551616', '>1 ,>2 \0',
  Array.from({ length: 33 }, (_, at) => `>${at}`).join(','),
]; // biome-ignore format: one list

describe('version ranges, as Cargo defines them', () => {
  it.each(CASES)('%s', (range, inside, outside) => {
    for (const version of inside.split(' ').filter(Boolean))
      expect(inRange(version, range), version).toBe(true);
    for (const version of outside.split(' ')) expect(inRange(version, range), version).toBe(false);
  });
  it.each(NO_RANGES)('%j is none', (range) => expect(parseVersionRange(range)).toBeUndefined());
  it.each([
    '',
    '1',
    '1.2',
    '1.2.3.4',
    'v1.2.3',
    '01.2.3',
    '1.2.3-',
    '1.2.3-a..b',
    '1.2.3-01',
    ' 1.2.3',
    '1.2.x',
  ])('%j is no version', (version) => expect(parseVersion(version)).toBeUndefined());

  const part = fc.nat({ max: 3 });
  const version = fc.tuple(part, part, part).map((parts) => parts.join('.'));
  it('of a version and its opposites exactly the right one holds', () => {
    fc.assert(
      fc.property(version, version, (a, b) => {
        expect(inRange(a, `>=${b}`)).toBe(!inRange(a, `<${b}`));
        expect(inRange(a, `<=${b}`)).toBe(!inRange(a, `>${b}`));
        expect(inRange(a, `=${b}`)).toBe(a === b);
        expect(inRange(a, `^${b}`)).toBe(inRange(a, b));
        if (inRange(a, `~${b}`)) expect(inRange(a, `>=${b}`)).toBe(true);
      }),
    );
  });
  it('any text is a range, or none', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0123.*x,<>=~^-+a ') }), (text) => {
        const range = parseVersionRange(text);
        if (range !== undefined) expect([true, false]).toContain(inRange('1.2.3', text));
      }),
    );
  });
});
