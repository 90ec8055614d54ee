import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type ConformanceCase, Deviation, NotApplicable } from './case.ts';
import { casesOf, readCommand, type Suite, USAGE } from './options.ts';
import { resultLines } from './report.ts';
import { isConforming, runCases } from './run-cases.ts';

const SUITES: readonly Suite[] = ['agent', 'kms', 'verifier', 'gateway'];
const pages = join(import.meta.dirname, '../../../docs/protocol');
const directory = mkdtempSync(join(tmpdir(), 'conformance-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe.each(SUITES)('cases of %s', (suite) => {
  const cases = casesOf(suite);

  it('have ids of their own that begin with the name of the suite', () => {
    expect(new Set(cases.map(({ id }) => id)).size).toBe(cases.length);
    for (const { id } of cases) expect(id).toMatch(new RegExp(`^${suite}(\\.[a-z0-9-]+)+$`));
  });

  it('name a section that exists', () => {
    for (const { id, section } of cases) {
      const [page = '', number = ''] = section.split(' ');
      const text = readFileSync(join(pages, page), 'utf8');
      expect(text, `${id}: ${section}`).toMatch(
        new RegExp(`^#{2,3} ${number.replace('.', '\\.')}\\.? `, 'm'),
      );
    }
  });

  it('say in a sentence what they check', () => {
    for (const { checks } of cases) expect(checks).toMatch(/^\S.*[.]$/);
  });
});

describe('a run', () => {
  const one = (id: string, run: () => void): ConformanceCase<undefined> => ({
    id,
    checks: 'It does.',
    section: 'kms.md 1.1',
    run: async () => run(),
  });
  const cases = [
    one('a.good', () => undefined),
    one('a.bad', () => {
      throw new Deviation('it does not');
    }),
    one('a.other', () => {
      throw new NotApplicable('needs more');
    }),
    one('a.broken', () => {
      throw new TypeError('oops');
    }),
    { ...one('a.more', () => undefined), isExtension: true as const },
  ];
  const outcomes = async (known: Record<string, string>, extensions = false, only?: string) => {
    const options = { extensions, only, known: new Map(Object.entries(known)) };
    const results = await runCases(cases, undefined, options);
    return { ok: isConforming(results), outcomes: results.map(({ id, outcome }) => `${id} ${outcome}`) };
  };

  it('fails for deviations and for what nobody expected, not for what does not apply', async () => {
    expect(await outcomes({})).toEqual({
      ok: false,
      outcomes: ['a.good passed', 'a.bad failed', 'a.other skipped', 'a.broken failed'],
    });
  });

  it('takes known deviations, and fails for one that is none any more', async () => {
    const known = { 'a.bad': 'for a reason', 'a.broken': 'another' };
    expect(await outcomes(known)).toMatchObject({ ok: true });
    expect(await outcomes({ ...known, 'a.good': 'no reason' })).toMatchObject({
      ok: false,
      outcomes: expect.arrayContaining(['a.good no deviation any more']),
    });
  });

  it('runs extensions and a part on request', async () => {
    expect((await outcomes({}, true, 'more')).outcomes).toEqual(['a.more passed']);
  });

  it('says what was found and where it is described', async () => {
    const [result] = await runCases([cases[1]!], undefined, { extensions: false, known: new Map() });
    expect(resultLines(result!).join('\n')).toBe(
      'FAILED   a.bad\n         It does. (docs/protocol/kms.md, section 1.1)\n         it does not',
    );
  });
});

describe('the command line', () => {
  const known = (text: string): string => {
    const path = join(directory, 'known.json');
    writeFileSync(path, text);
    return path;
  };

  it.each([
    [[], /Expected agent, kms, verifier or gateway, found nothing/],
    [['guest'], /found guest/],
    [['agent'], /URL of the implementation is missing/],
    [['agent', 'ftp://x'], /neither unix:PATH nor http/],
    [['agent', 'http://x/prpc'], /neither unix:PATH nor http/],
    [['agent', 'http://x', 'http://y'], /One URL/],
    [['agent', 'http://x', '--proxy', 'http://y'], /--proxy is of the suite gateway/],
    [['kms', 'https://x', '--cert', 'a'], /belong together/],
    [['kms', 'https://x', '--app-id', '12'], /not 40 hex digits/],
    [['verifier', 'http://x', '--evidence', '/nonexistent'], /cannot be read/],
    [['agent', 'http://x', '--only', 'nothing'], /No case of agent/],
    [['agent', 'http://x', '--wrong'], /--wrong/],
    [['agent', 'http://x', '--known', known('{"agent.nothing":"x"}')], /there is no such case/],
  ])('%j is refused in one sentence', (argv, text) => {
    expect(() => readCommand(argv as string[])).toThrow(text);
  });

  it.each([
    ['{', /is no JSON/],
    ['[]', /is no JSON object/],
    ['{"agent.version":""}', /gives no reason/],
  ])('a list of known deviations %j is refused', (text, error) => {
    expect(() => readCommand(['agent', 'http://x', '--known', known(text)])).toThrow(error);
  });

  it('has examples in its help', () => {
    expect(readCommand(['--help'])).toEqual({ kind: 'help' });
    expect(USAGE).toContain('Examples:\n  dstack-conformance');
  });
});
