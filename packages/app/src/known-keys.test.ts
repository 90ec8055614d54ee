import { expect, test } from 'vitest';
import { z } from 'zod';
import { knownKeys } from './known-keys.ts';

const schema = z.strictObject({
  name: z.string().default(''),
  limits: z.strictObject({ bytes: z.int().optional(), depth: z.int() }).prefault({ depth: 1 }),
  list: z.array(z.strictObject({ from: z.int() })),
});

test.each([
  [[], ['name', 'limits', 'list']],
  [['limits'], ['bytes', 'depth']],
  [['name'], []],
  [['list'], []],
  [['nothing', 'below'], []],
])('the keys at %j', (path, keys) => {
  expect(knownKeys(schema, path)).toEqual(keys);
});
