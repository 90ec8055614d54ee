import { describeWithFixtures, fixture } from '@dstack-cloud/test/fixtures';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { AppError } from '../errors.ts';
import { type ComposeNode, memberOf, readComposeFile } from './index.ts';

const CASES = 'public-cases/compose';
const caseText = (name: string): string => new TextDecoder().decode(fixture(`${CASES}/${name}`));

/** As plain values, aliases written out. */
function plain(node: ComposeNode): unknown {
  if (node.kind === 'scalar') return node.text;
  if (node.kind === 'list') return node.items.map(plain);
  return Object.fromEntries([...node.entries].map(([key, { value }]) => [key, plain(value)]));
}
const read = (text: string): Record<string, Record<string, unknown>> =>
  plain(readComposeFile(text).root) as Record<string, Record<string, unknown>>;
const service = (members: string) => read(`services: {a: ${members}}`)['services']?.['a'];

describe('scalars stay the text that they were', () => {
  it.each([
    '1147053346671102335',
    '0x5FF137D4b0FDCD49DcA30c7CF57E578a026d2789',
    '0022',
    '1e3',
    '1.10',
    '+1',
    '.5',
    '0o17',
    '12:30:45',
    '2026-01-01',
    'yes',
    'no',
    'on',
    'True',
    '.inf',
    '-.nan',
    '1_000',
    '0b11',
    '99999999999999999999',
  ])('%s', (text) => {
    expect(service(`{environment: {X: ${text}}}`)).toEqual({ environment: { X: text } });
  });
  it.each(['', '~', 'null', '!!null x'])('%j is no value', (text) => {
    expect(service(`{x: ${text}}`)).toEqual({ x: null });
  });
  it.each(['"null"', "''", '!!str null'])('%s is a text', (text) => {
    expect(typeof (service(`{x: ${text}}`) as { x: unknown }).x).toBe('string');
  });
});

describe('aliases and merge keys', () => {
  it('merge as YAML 1.1 has it: own members win, then earlier mappings', () => {
    const text = `
x-a: &a {p: a, q: a, r: a}
x-b: &b {q: b, s: b}
services:
  one: {<<: [*a, *b], p: own}
  two:
    <<: *b
    "<<": text
  three: {<<: [*b, *a]}`;
    const { services } = read(text);
    expect(services?.['one']).toEqual({ p: 'own', q: 'a', r: 'a', s: 'b' });
    expect(services?.['two']).toEqual({ '<<': 'text', q: 'b', s: 'b' });
    expect(services?.['three']).toMatchObject({ q: 'b' });
  });
  it('name what comes before, also a name that is given again', () => {
    const { services } = read('x: &n 1\nservices: {a: {x: *n, y: &n 2, z: *n}}');
    expect(services?.['a']).toEqual({ x: '1', y: '2', z: '2' });
  });
  it('a thousand aliases of a large anchor', () => {
    const anchor = `x-b: &b {${Array.from({ length: 40 }, (_, at) => `m${at}: v`).join(', ')}}\n`;
    const lines = Array.from({ length: 200 }, (_, at) => `  s${at}: {a: *b, b: *b, c: *b, d: *b, e: *b}\n`);
    expect(Object.keys(read(`${anchor}services:\n${lines.join('')}`)['services'] ?? {})).toHaveLength(200);
  });
});

/** Nine levels of nine: a few hundred characters that expand to 9^9 texts. */
function bomb(open: string, close: string, item: (name: string) => string): string {
  const levels = Array.from({ length: 9 }, (_, at) => {
    const inner = at === 0 ? 'x' : `*a${at - 1}`;
    return `a${at}: &a${at} ${open}${Array.from({ length: 9 }, (__, k) => item(`k${k}`) + inner).join(', ')}${close}`;
  });
  return `${levels.join('\n')}\nservices: {a: {command: x}}`;
}

describe('hostile files are refused with the place', () => {
  it.each([
    [
      'a bomb of lists',
      bomb('[', ']', () => ''),
      /:\d+:\d+: its aliases expand to more than 4194304 characters/,
    ],
    ['a bomb of mappings', bomb('{', '}', (key) => `${key}: `), /:\d+:\d+: its aliases expand/],
    ['an alias inside its anchor', 'services: &s {a: {x: *s}}', /:1:22: the alias \*s stands inside/],
    ['a merge key inside its anchor', 'services:\n  a: &a\n    <<: *a', /:3:9: the alias \*a stands inside/],
    ['an alias of nothing', 'services: {a: {x: *n}}', /:1:19: .*\bn\b/],
    ['depth by brackets', `services: ${'['.repeat(50_000)}`, /:1:\d+: nested deeper than 32 levels/],
    ['depth by braces', `services: ${'{a: '.repeat(10_000)}`, /:1:\d+: nested deeper/],
    ['depth by dashes', `services:\n${'- '.repeat(30_000)}x`, /:2:\d+: nested deeper/],
    ['depth by question marks', '? '.repeat(20_000), /nested deeper/],
    [
      'depth by lines',
      Array.from({ length: 60 }, (_, at) => `${' '.repeat(at)}a:`).join('\n'),
      /:\d+:\d+: nested deeper/,
    ],
    ['depth by aliases', depthByAliases(), /:\d+:\d+: its aliases nest deeper than 32/],
    ['too many tokens', `services: [${','.repeat(200_000)}]`, /more than 100000 YAML tokens/],
    ['a huge text', `services: {a: {command: "${'x'.repeat(1024 * 1024)}"}}`, /more than 1048576 characters/],
    ['many documents', '---\n{}\n'.repeat(100), /more than 16 documents/],
    ['copies by merge keys', copiesByMerge(), /merge keys copy more than 200000 members/],
    [
      'a repeated key',
      'services:\n  a: {command: x}\n  a: {command: y}',
      /:3:3: "a" is there twice \(first on line 2\)/,
    ],
    ['a repeated merge key', 'x: &x {}\nservices: {a: {<<: *x, <<: *x}}', /:2:24: "<<" is there twice/],
    [
      'a service named by a prototype',
      'services: {__proto__: {command: x}}',
      /:1:12: services: "__proto__" is no name/,
    ],
    [
      'a control character in a name',
      'services: {"a\\e[2Jb": {command: x}}',
      /:1:12: services: "a\\u001b\[2Jb" is no name/,
    ],
    ['a path as a name', 'services: {"../x": {command: x}}', /"\.\.\/x" is no name/],
    ['a list as a name', 'services: {? [a] : {command: x}}', /:1:14: the name of a member must be a text/],
    ['an unknown tag', 'services: !js/function x', /:1:24: the tag "!js\/function" is not known/],
    ['a binary', 'services: {a: {x: !!binary aGk=}}', /tag ".*binary" is not known/],
    [
      'a circle of dependencies',
      'services:\n  a: {depends_on: [b]}\n  b: {depends_on: {a: null}}',
      /:3:20: services depend on each other: a -> b -> a/,
    ],
    ['a service that depends on itself', 'services: {a: {depends_on: [a]}}', /a -> a/],
    [
      'a circle of extends',
      'services: {a: {extends: b}, b: {extends: {service: a}}}',
      /services extend each other: a -> b -> a/,
    ],
    [
      'a dependency that does not exist',
      'services:\n  a: {depends_on: [b]}',
      /:2:20: service a depends on "b", which does not exist/,
    ],
    ['no YAML', 'services: [', /:1:\d+: /],
    ['no mapping', '- a', /:1:1: the file has no services; a mapping is expected/],
    ['nothing', '', /:1:1: the file has no services/],
    ['no services', 'a: 1', /has no services/],
    ['services without a member', 'services: {}', /:1:11: the file has no services/],
    ['a service without a mapping', 'services: {a: }', /service a must be a mapping/],
    [
      'too many services',
      `services: {${Array.from({ length: 257 }, (_, at) => `s${at}: {}`).join(', ')}}`,
      /more than 256 services/,
    ],
  ])('%s', (_, text, message) => {
    const start = performance.now();
    expect(() => readComposeFile(text)).toThrow(message);
    expect(() => readComposeFile(text)).toThrow(
      expect.objectContaining({
        code: 'compose-file-invalid',
        message: expect.stringMatching(/^docker-compose\.yaml:\d+:\d+: /),
      }),
    );
    // A loaded machine needs its time; without the bounds these take minutes, or all memory.
    expect(performance.now() - start).toBeLessThan(10_000);
  });

  it('no library and no function of one is named', () => {
    for (const text of [
      'a: 1\n---\nb: 2',
      'services: [',
      'a: *b',
      '%FOO\n---',
      '\t- a',
      'a: b: c',
      '"',
      '{',
      '- :a\n-b',
    ])
      expect(() => readComposeFile(text)).not.toThrow(/YAML\.|parseAll|toJS|maxAlias|Document|function/);
  });

  it('whatever the text, it is read or refused', () => {
    const pieces = fc.constantFrom(
      'services:',
      '\n',
      ' ',
      '  ',
      'a',
      ':',
      '-',
      '{',
      '}',
      '[',
      ']',
      '&a',
      '*a',
      '<<',
      '!!str',
      '"',
      "'",
      '|',
      '#',
      ',',
      '? ',
    );
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 40 }), (parts) => {
        try {
          readComposeFile(parts.join(''));
        } catch (error) {
          expect(error).toBeInstanceOf(AppError);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('values survive being written and read', () => {
    const key = fc.string({ minLength: 1, maxLength: 8 }).filter((name) => name !== '__proto__');
    const { tree } = fc.letrec((tie) => ({
      tree: fc.oneof(
        { maxDepth: 4 },
        fc.string({ maxLength: 20 }),
        fc.dictionary(key, tie('tree'), { maxKeys: 4 }),
        fc.array(tie('tree'), { maxLength: 4 }),
      ),
    }));
    fc.assert(
      fc.property(tree, (value) => {
        const text = stringify(
          { services: { a: { x: value } } },
          { defaultStringType: 'QUOTE_DOUBLE', defaultKeyType: 'QUOTE_DOUBLE' },
        );
        expect(service0(text)).toEqual({ x: value });
      }),
    );
  });
});

const service0 = (text: string): unknown => read(text)['services']?.['a'];

function depthByAliases(): string {
  const levels = Array.from(
    { length: 12 },
    (_, at) => `a${at}: &a${at} [[[${at === 0 ? 'x' : `*a${at - 1}`}]]]`,
  );
  return `${levels.join('\n')}\nservices: {a: {command: x}}`;
}

function copiesByMerge(): string {
  const large = Array.from({ length: 2000 }, (_, at) => `k${at}: v`).join(', ');
  const users = Array.from({ length: 200 }, (_, at) => `  s${at}: {<<: *l}`).join('\n');
  return `x: &l {${large}}\nservices:\n${users}`;
}

describe('several documents', () => {
  it('count as one', () => {
    const text =
      'version: "3"\nservices: {a: {image: x}}\nvolumes: {v: }\n---\nservices: {b: {depends_on: [a]}}\nvolumes: {w: {}}\n---\n';
    const { services, volumes } = read(text);
    expect(Object.keys({ ...services, ...volumes })).toEqual(['a', 'b', 'v', 'w']);
  });
  it('what two of them define is refused, naming both places', () => {
    expect(() => readComposeFile('services: {a: {image: x}}\n---\nservices: {a: {image: y}}')).toThrow(
      /:3:12: "a" stands in two documents \(first on line 1\)/,
    );
    expect(() => readComposeFile('include: [x]\nservices: {a: {}}\n---\ninclude: [y]')).toThrow(
      /:4:1: "include"/,
    );
  });
});

describeWithFixtures('files from practice', `${CASES}/two-documents.yaml`, () => {
  it('sixty services that share anchors', () => {
    const { services } = readComposeFile(caseText('sixty-services-one-anchor.yaml'));
    expect(services.size).toBe(61);
    const last = plain(services.get('worker59') as ComposeNode);
    expect(last).toMatchObject({
      restart: 'unless-stopped',
      depends_on: ['db'],
      environment: { LEVEL: 'info', ZONE: 'eu', INDEX: '59' },
      logging: { driver: 'json-file', options: { 'max-size': '10m' } },
    });
  });
  it('two documents', () => {
    expect([...readComposeFile(caseText('two-documents.yaml')).services.keys()]).toEqual(['a', 'b']);
  });
  it('a dependency that may be missing', () => {
    const { services } = readComposeFile(caseText('depends-required-false.yaml'));
    expect(services.size).toBe(1);
  });
  it('large numbers and unquoted addresses', () => {
    const app = readComposeFile(caseText('order-secrets-modes-numbers.yaml')).services.get('app');
    expect(plain(memberOf(app!, 'environment')!)).toEqual({
      GUILD_ID: '1147053346671102335',
      OWNER: '0x5FF137D4b0FDCD49DcA30c7CF57E578a026d2789',
      UMASK: '0022',
    });
  });
});
