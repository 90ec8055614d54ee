import { describe, expect, it } from 'vitest';
import { allowedGateways } from './allowed-gateways.ts';

const [A, B] = ['ab'.repeat(20), 'cd'.repeat(20)];

describe('the gateways that a key service names', () => {
  it.each([
    [A, [A]],
    [`0x${A.toUpperCase()}`, [A]],
    [`${A},${B}`, [A, B]],
    [` ${A} ; ${B}\n`, [A, B]],
    ['any', 'any'],
  ])('%j', (text, ids) => {
    expect(allowedGateways(text)).toEqual(ids);
  });

  it.each(['', ' , ', A.slice(2), `${A}00`, `${A}${B}`, `any,${A}`, 'anything'])('are none in %j', (text) => {
    expect(() => allowedGateways(text)).toThrow(expect.objectContaining({ code: 'gateway-misconfigured' }));
  });
});
