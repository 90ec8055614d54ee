import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { table } from './table.ts';

describe('table', () => {
  const schema = table(z.int());

  it('takes every name but one, which it does not lose without a word', () => {
    const names = { a: 1, constructor: 2, toString: 3, hasOwnProperty: 4 };
    expect(Object.entries(schema.parse(names))).toEqual(Object.entries(names));
    expect(() => schema.parse(JSON.parse('{"__proto__": 1}'))).toThrow('__proto__ cannot be a name here');
  });

  it('refuses what z.record refuses', () => {
    for (const value of [null, [], 'x', { a: 'x' }, undefined])
      expect(schema.safeParse(value).success).toBe(false);
    expect(table(z.int(), z.string().regex(/^a/)).safeParse({ b: 1 }).success).toBe(false);
  });
});
