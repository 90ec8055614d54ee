import { expect, it } from 'vitest';
import type { ImageLock } from './image-lock.ts';
import { lockChanges } from './lock-changes.ts';

const one = (name: string, version: string, hash: string) => ({
  name,
  version,
  size: 1,
  sha256: hash.repeat(64),
});
const lock = (image: ImageLock['image']): ImageLock => ({
  schema: 1,
  suite: 'trixie',
  kernel: '1',
  node: { name: 'node', version: '1.0.0', integrity: 'sha512-' },
  image,
  tools: [one('gzip', '1', 'a')],
});

it('names what is new, gone, newer, or rebuilt under the same version', () => {
  const before = lock([
    one('kept', '1', 'a'),
    one('gone', '1', 'b'),
    one('newer', '1', 'c'),
    one('rebuilt', '1', 'd'),
  ]);
  const after = lock([
    one('kept', '1', 'a'),
    one('newer', '2', 'e'),
    one('rebuilt', '1', 'f'),
    one('added', '1', '0'),
  ]);
  expect(lockChanges(before, after)).toEqual([
    { name: 'added', before: undefined, after: '1', rebuilt: false },
    { name: 'gone', before: '1', after: undefined, rebuilt: false },
    { name: 'newer', before: '1', after: '2', rebuilt: false },
    { name: 'rebuilt', before: '1', after: '1', rebuilt: true },
  ]);
});

it('names a package that the lock called by another version or size, although its bytes are the same', () => {
  const after = lock([one('a', '1', 'a'), one('b', '1', 'b')]);
  const before = lock([one('a', '2', 'a'), { ...one('b', '1', 'b'), size: 2 }]);
  expect(lockChanges(before, after)).toEqual([
    { name: 'a', before: '2', after: '1', rebuilt: false },
    { name: 'b', before: '1', after: '1', rebuilt: false },
  ]);
});
