import { expect, test } from 'vitest';
import { bcryptMatches } from './bcrypt.ts';
import { initialState } from './blowfish-tables.ts';

test('the tables begin with the digits of pi', () => {
  const { p, s } = initialState();
  expect([p[0], p[17], s[0], s[1023]]).toEqual([0x243f6a88, 0x8979fb1b, 0xd1310ba6, 0x3ac372e6]);
});

// Vectors of the original implementation's test suite (Openwall crypt_blowfish, `wrapper.c`).
test.each([
  ['U*U', '$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW'],
  ['U*U*', '$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK'],
  ['U*U*U', '$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a'],
  ['', '$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy'],
])('%j', async (password, hash) => {
  expect(await bcryptMatches(password, hash)).toBe(true);
  expect(await bcryptMatches(`${password}x`, hash)).toBe(false);
});

test('costs that would block the process never match', async () => {
  expect(await bcryptMatches('x', `$2y$31$${'C'.repeat(53)}`)).toBe(false);
});
