// biome-ignore-all lint/suspicious/noTemplateCurlyInString: compose files interpolate with the same signs
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AppError } from './errors.ts';
import { interpolate } from './interpolate.ts';

const variables = { A: 'one', EMPTY: '', _x1: 'under' };

describe('interpolate', () => {
  it.each([
    ['$A', 'one'],
    ['${A}-$_x1', 'one-under'],
    ['$$A $${A}', '$A ${A}'],
    ['${A:-d} ${EMPTY:-d} ${NONE:-d}', 'one d d'],
    ['${EMPTY-d}|${NONE-d}', '|d'],
    ['${NONE:-${ALSO:-${A}}}', 'one'],
    ['${A:+set}${EMPTY:+set}${NONE+set}${EMPTY+set}', 'setset'],
    ['${NONE}x$NONE', 'x'],
    ['${A:?needed}', 'one'],
    ['plain', 'plain'],
  ])('%s -> %s', (text, expected) => expect(interpolate(text, { variables })).toBe(expected));

  it.each(['${NONE:?it is needed}', '${NONE?it is needed}', '${EMPTY:?it is needed}'])('%s fails', (text) => {
    expect(() => interpolate(text, { variables })).toThrow(/missing a value: it is needed/);
  });
  it.each(['$', '$1', '${', '${A', '${}', '${A!}', '${A:x}', '${1A}'])('%s is refused', (text) => {
    expect(() => interpolate(text, { variables })).toThrow(AppError);
  });
  it('names missing variables and takes none from a prototype', () => {
    const missing: string[] = [];
    expect(interpolate('$toString', { variables, onMissing: (name) => missing.push(name) })).toBe('');
    expect(missing).toEqual(['toString']);
  });
  it('throws nothing but AppError', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'${}:-?+A $') }), (text) => {
        try {
          interpolate(text, { variables });
        } catch (error) {
          expect(error).toBeInstanceOf(AppError);
        }
      }),
    );
  });
});
