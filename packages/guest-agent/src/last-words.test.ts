import fc from 'fast-check';
import { expect, it } from 'vitest';
import { lastWords } from './last-words.ts';

it('keeps the last lines of a program, without colours and empty lines', () => {
  expect(lastWords('one\ntwo\n\n three\r\n\u001b[31mfour\u001b[0m\nfive\n')).toBe(
    'two / three / four / five',
  );
  expect(lastWords(' \n')).toBe('');
});

it('shows what would do something to a terminal, instead of doing it', () => {
  expect(lastWords('open \u001b]0;title\u0007 \u202egnp.exe')).toBe(
    'open \\u{1b}]0;title\\u{7} \\u{202e}gnp.exe',
  );
});

it('is one bounded line, whatever the program said', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 2000 }), (said) => {
      const words = lastWords(said.repeat(4));
      expect(words.length).toBeLessThan(1000);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: none may be left
      expect(words).not.toMatch(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u2028\u2029]/);
    }),
    { numRuns: 30 },
  );
});
