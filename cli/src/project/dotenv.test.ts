// biome-ignore-all lint/suspicious/noTemplateCurlyInString: environment files interpolate with the same signs
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatDotEnvValue } from '@dstack-cloud/app';
import { describeWithFixtures, fixture } from '@dstack-cloud/test/fixtures';
import { describeWithPrograms, findProgram } from '@dstack-cloud/test/requires';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import type { CliError } from '../errors.ts';
import { decodeEnv } from './decode-env.ts';
import { parseDotEnv } from './dotenv.ts';

/** A table without inherited names, so that `__proto__` is a name as any other. */
const read = (text: string): Map<string, string> =>
  new Map(parseDotEnv(text, '.env').vars.map(({ key, value }) => [key, value]));
const refusal = (text: string): CliError => {
  try {
    parseDotEnv(text, '.env');
  } catch (error) {
    return error as CliError;
  }
  throw new Error(`${JSON.stringify(text)} was taken`);
};

describe('.env is read as Docker Compose reads it', () => {
  it.each([
    [
      'plain values, trimmed',
      ' A = 1 2 \nB=',
      [
        ['A', '1 2'],
        ['B', ''],
      ],
    ],
    [
      'comments',
      '# A=0\n\nA=1 # one\nB=1#2\nC="x" # y\n  # z\n',
      [
        ['A', '1'],
        ['B', '1#2'],
        ['C', 'x'],
      ],
    ],
    ['a # first in a value, which Compose keeps too', 'A= # c\n', [['A', '# c']]],
    [
      'export',
      'export A=1\nexport\t B=2\nexport=3',
      [
        ['A', '1'],
        ['B', '2'],
        ['export', '3'],
      ],
    ],
    ['further equals signs', 'A=b=c==', [['A', 'b=c==']]],
    [
      'the last of equal names',
      'A=1\nB=2\nA=3',
      [
        ['A', '3'],
        ['B', '2'],
      ],
    ],
    [
      'CRLF line ends',
      'A=1\r\nB="x"\r\n',
      [
        ['A', '1'],
        ['B', 'x'],
      ],
    ],
    ['a byte order mark', '\ufeffA=1', [['A', '1']]],
    ['double quotes: escapes', String.raw`A="a\nb\tc\\n\"\$B \q \0101"`, [['A', 'a\nb\tc\\n"$B \\q A']]],
    ['single quotes: literal', String.raw`A='a\n $B "\'${'#'}'`, [['A', String.raw`a\n $B "'#`]]],
    [
      'several lines',
      'A="one\ntwo=2\n# three"\nB=\'x\n\ny\'\n',
      [
        ['A', 'one\ntwo=2\n# three'],
        ['B', 'x\n\ny'],
      ],
    ],
    [
      'interpolation',
      'A=1\nB=$A-${A}\nC="${B}"\nD=\'$A\'\nE=${X:-d}$$A',
      [
        ['A', '1'],
        ['B', '1-1'],
        ['C', '1-1'],
        ['D', '$A'],
        ['E', 'd$A'],
      ],
    ],
    [
      'names that objects inherit',
      'toString=1\nconstructor=2\nA=$toString',
      [
        ['toString', '1'],
        ['constructor', '2'],
        ['A', '1'],
      ],
    ],
  ] as const)('%s', (_name, text, expected) => expect([...read(text)]).toEqual(expected));

  it.each([
    ['A=1\nTOKEN: abc', 2, 'TOKEN=value'],
    ['A=1\n\n[{"key": "TOKEN"}]', 3, 'NAME=value'],
    ['{"TOKEN": "abc"}', 1, 'NAME=value'],
    ['MY-KEY=1', 1, 'letters, digits'],
    ['1A=1', 1, 'letters, digits'],
    ['É=1', 1, 'letters, digits'],
    ['A B=1', 1, 'letters, digits'],
    [`${'A'.repeat(256)}=1`, 1, '255'],
    ['=1', 1, 'letters, digits'],
    ['__proto__=1', 1, 'letters, digits'],
    ['A', 1, 'NAME=value'],
    ['export A', 1, 'NAME=value'],
    ['A="x\ny', 1, 'NAME="value"'],
    ['A=1\nB="x\ny" z\nC=1', 3, 'nothing, or a comment'],
    ['A="x"B=2', 1, 'nothing, or a comment'],
    ['A=1\rB=2', 1, 'double quotes'],
    ['A=1\nB=$NONE', 2, '$$ or single quotes'],
    ['B=$B', 1, '$$ or single quotes'],
    ['A=5$', 1, '$$ or single quotes'],
    ['A="${"', 1, '$$ or single quotes'],
    ['A="\\0000"', 1, 'NAME=value'],
    [`${'A=1\n'.repeat(1024)}B=1`, 1025, 'at most 1024'],
  ])('refuses %j, naming line %i and what is expected', (text, line, expected) => {
    const error = refusal(text);
    expect(error.code).toBe('bad_env');
    expect(error.message).toContain(`.env:${line}: `);
    expect(error.expected).toContain(expected);
  });

  it('warns of values that may be meant otherwise', () => {
    expect(parseDotEnv('A=1\nA=2\nB=#x\nC=x\t# y', '.env').warnings).toEqual([
      'A is set on lines 1, 2; the last one counts',
      'Line 3: the value of B starts with "#"; that is no comment',
      'Line 4: the value of C holds "#" after a tab; only a blank before it starts a comment',
    ]);
  });

  it('never quotes a value in an error', () => {
    const broken = ['"', "'", '$', '${', '\0', '\r', '" x', ': ', '=', ''];
    const text = fc.tuple(
      fc.constantFrom('A=', 'A="', "A='", '', 'A: ', '{"A": "'),
      fc.constantFrom(...broken),
      fc.constantFrom(...broken),
    );
    fc.assert(
      fc.property(text, ([start, before, after]) => {
        const secret = 's3cr3t with blanks';
        try {
          parseDotEnv(`X=1\n${start}${before}${secret}${after}\n${secret}`, '.env');
        } catch (error) {
          const { message, expected, found, hint } = error as CliError;
          expect([message, expected, found, hint].join(' ')).not.toMatch(/s3cr3t|blanks/);
        }
      }),
    );
  });
});

describe('a value written into .env', () => {
  it('is read back, by itself and between others', () => {
    const value = fc.string({ unit: fc.constantFrom(...'aZ0 \t\n\r"\'\\$`#{}=é😀:;'), maxLength: 16 });
    fc.assert(
      fc.property(value, value, (one, two) => {
        const text = `A=${formatDotEnvValue(one)} # c\nexport B=${formatDotEnvValue(two)}\nC=1`;
        expect([...read(text)]).toEqual([
          ['A', one],
          ['B', two],
          ['C', '1'],
        ]);
      }),
    );
  });
});

describe('the encoding of .env', () => {
  it.each([
    ['UTF-16 (little-endian)', [0xff, 0xfe, 0x41, 0]],
    ['UTF-16 (big-endian)', [0xfe, 0xff, 0, 0x41]],
    ['UTF-32 (little-endian)', [0xff, 0xfe, 0, 0, 0x41, 0, 0, 0]],
    ['UTF-32 (big-endian)', [0, 0, 0xfe, 0xff, 0, 0, 0, 0x41]],
  ])('%s is refused by name', (name, bytes) => {
    expect(() => decodeEnv(Uint8Array.from(bytes), '.env')).toThrow(`.env is ${name} text`);
  });

  it('names the line that is no UTF-8', () => {
    const bytes = Buffer.concat([Buffer.from('A=1\nB=é\nC='), Buffer.from([0xe9]), Buffer.from('\nD=1')]);
    expect(() => decodeEnv(bytes, '.env')).toThrow('.env:3: this line is no UTF-8 text');
  });
});

describeWithFixtures('public reports', 'public-cases/env', () => {
  const load = (name: string): [string, string][] => [
    ...read(decodeEnv(fixture(`public-cases/env/${name}`), '.env')),
  ];

  it('a key in PEM is one value', () => {
    const [entry, ...others] = load('multi-line-quoted.env');
    expect(others).toEqual([]);
    expect(entry?.[0]).toBe('KEY');
    expect(entry?.[1]).toMatch(/^-----BEGIN PRIVATE KEY-----\n(.+\n){2}-----END PRIVATE KEY-----$/);
    expect(entry?.[1].split('\n')).toHaveLength(4);
  });

  it('export is taken', () => expect(load('export.env')).toEqual([['TOKEN', 'abc']]));

  it.each([
    ['json.env', /:1: .*JSON/],
    ['colon.env', /:1: "TOKEN:"/],
    ['dash.env', /:1: "MY-KEY"/],
    ['utf-16.env', /UTF-16/],
  ])('%s is refused', (name, message) => expect(() => load(name)).toThrow(message));
});

/** `docker compose` where there is one, else the older program; both read files without a daemon. */
function composeCommand(): { command: string[]; current: boolean } {
  try {
    execFileSync('docker', ['compose', 'version'], { stdio: 'ignore' });
    return { command: ['docker', 'compose'], current: true };
  } catch {
    return { command: ['docker-compose'], current: false };
  }
}

describeWithPrograms(
  'what Compose itself reads',
  [findProgram('docker-compose') === undefined ? 'docker' : 'docker-compose'],
  () => {
    it('is what we read, wherever we take the file', () => {
      const { command, current } = composeCommand();
      const directory = mkdtempSync(join(tmpdir(), 'compose-env-'));
      // Version 1 knows neither $NAME nor the escapes of Compose 2, interpolates within single quotes, and takes a tab
      // before # for the start of a comment.
      const plain = ['a', 'Z 9', '=', '#', ' #', ':', '-', 'é', ' ', ...(current ? ['\t'] : [])];
      const more = current ? ['${A_1}', '$A_1', '$$', '\\n', '\\\\'] : ['${A_1}'];
      const text = (...atoms: string[]) =>
        fc.array(fc.constantFrom(...atoms), { maxLength: 8 }).map((parts) => parts.join(''));
      const value = fc.oneof(
        text(...plain, ...more),
        text(...plain, ...more, '\n', '\\"', "'").map((body) => `"${body}"`),
        text(...plain, ...(current ? more : []), '\n', '"').map((body) => `'${body}'`),
      );
      const line = fc.tuple(
        fc.constantFrom('', 'export ', ' ', '# c\n'),
        fc.constantFrom('B_1', 'C_1', 'D_1'),
        fc.constantFrom('=', ' = '),
        value,
        fc.constantFrom('', ' # end', ' '),
      );
      const file = fc.array(
        line.map((parts) => parts.join('')),
        { minLength: 1, maxLength: 4 },
      );
      const files = fc
        .sample(file, 120)
        .map((lines) => `A_1=one\n${lines.join('\n')}\n`)
        .filter((text) => {
          try {
            return read(text).size > 0;
          } catch {
            return false;
          }
        });
      expect(files.length).toBeGreaterThan(30);
      try {
        files.forEach((text, index) => {
          writeFileSync(join(directory, `${index}.env`), text);
        });
        const services = Object.fromEntries(
          files.map((_, index) => [`s${index}`, { image: 'x', env_file: `${index}.env` }]),
        );
        writeFileSync(join(directory, 'docker-compose.yaml'), JSON.stringify({ services }));
        const [program = '', ...args] = command;
        const output = execFileSync(
          program,
          [...args, '-f', join(directory, 'docker-compose.yaml'), 'config'],
          { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
        );
        const { services: seen } = parse(output) as {
          services: Record<string, { environment: Record<string, string | null> }>;
        };
        files.forEach((text, index) => {
          const theirs = Object.entries(seen[`s${index}`]?.environment ?? {}).map(([name, found]) => [
            name,
            (found ?? '').replaceAll('$$', '$'),
          ]);
          expect(Object.fromEntries(theirs), JSON.stringify(text)).toEqual(Object.fromEntries(read(text)));
        });
      } finally {
        rmSync(directory, { recursive: true });
      }
    }, 60_000);
  },
);
