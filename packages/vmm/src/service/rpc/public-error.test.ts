import { expect, it } from 'vitest';
import { VmmError } from '../../errors.ts';
import { publicError } from './public-error.ts';

const errno = (code: string) => Object.assign(new Error(`${code}: mkdir '/vm/.trash'`), { code });

it.each([
  ['ENOSPC', /no room left on the disk: free some space/],
  ['EDQUOT', /quota/],
  ['EROFS', /read-only/],
  ['EACCES', /owner and mode/],
  ['EMFILE', /ulimit/],
])('%s of the host is said in words, however deep it lies', (code, message) => {
  const deep = new Error('cannot be written', { cause: new Error('x', { cause: errno(code) }) });
  for (const error of [errno(code), deep])
    expect(publicError(error)).toMatchObject({ code: 'UNAVAILABLE', text: expect.stringMatching(message) });
  expect(publicError(deep)?.text).toContain("mkdir '/vm/.trash'");
});

it('an error of the program stays its own', () => {
  for (const error of [new TypeError('x'), errno('ENOENT'), errno('constructor'), 'text', undefined, null])
    expect(publicError(error)).toBeUndefined();
});

it('values are said once, also when the message has them with escapes', () => {
  const said = (found: string) =>
    publicError(new VmmError('bad_option', `name: found ${JSON.stringify(found)}`, { found }))?.text;
  expect(said('a\nb')).toBe('name: found "a\\nb"');
  expect(said('x')).toBe('name: found "x"');
  expect(publicError(new VmmError('bad_option', 'name', { expected: 'a', found: 'q' }))?.text).toBe(
    'name (found q)',
  );
});
