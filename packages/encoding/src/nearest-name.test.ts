import { expect, test } from 'vitest';
import { nearestName } from './nearest-name.ts';

const known = ['verify', 'cache_dir', 'port', 'constructor_name'];

test.each([
  ['verfy', 'verify'],
  ['cachedir', 'cache_dir'],
  ['prot', 'port'],
  ['zzzzzzzz', undefined],
  ['constructor', undefined],
  ['', undefined],
  ['port'.repeat(10_000), undefined],
])('%s is nearest to %s', (wrong, nearest) => expect(nearestName(wrong, known)).toBe(nearest));
