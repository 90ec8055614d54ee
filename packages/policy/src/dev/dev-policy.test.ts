import { expect, test } from 'vitest';
import { facts, filled } from '../test/facts.ts';
import { devPolicy } from './dev-policy.ts';

test('is refused unless asked for by its dangerous name', () => {
  for (const dangerouslyAllowEverything of [false, undefined, 'true', 1]) {
    const options = { dangerouslyAllowEverything } as { dangerouslyAllowEverything: boolean };
    expect(() => devPolicy(options)).toThrow(expect.objectContaining({ code: 'dev-refused' }));
  }
});

test('allows everything that has a form', async () => {
  const policy = devPolicy({ dangerouslyAllowEverything: true });
  expect(await policy.authorize('app', facts())).toEqual({ allowed: true, reason: '', gatewayAppId: 'any' });
  expect(await policy.describe()).toEqual({ gatewayAppId: 'any' });
  await expect(policy.authorize('app', facts({ osImageHash: filled(0, 0) }))).rejects.toMatchObject({
    code: 'invalid-request',
  });
});
