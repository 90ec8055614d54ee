import fc from 'fast-check';
import { expect, it } from 'vitest';
import { VerifierError } from '../errors.ts';
import { readExpectations, splitExpectation } from './expectations.ts';

const HASH = 'ab'.repeat(32);

it('reads hex in any case and with a prefix, and modes', () => {
  expect(
    readExpectations([
      ['compose_hash', `0X${HASH.toUpperCase()}`],
      ['pcr31', '00'.repeat(48)],
      ['pcr4', '00'.repeat(32)],
      ['mode', 'dstack-tdx'],
      ['key_provider_info', '7b7d'],
    ]),
  ).toEqual({
    compose_hash: HASH,
    pcr31: '00'.repeat(48),
    pcr4: '00'.repeat(32),
    mode: 'dstack-tdx',
    key_provider_info: '7b7d',
  });
});

it.each<[string, [string, unknown][], RegExp]>([
  ['an unknown name', [['compose-hash', HASH]], /did you mean compose_hash/],
  ['a name that is nothing like any', [['colour', 'red']], /known are app_id.* pcr0 to pcr31/],
  ['a name of the language', [['__proto__', HASH]], /Nothing called/],
  ['another name of the language', [['toString', HASH]], /Nothing called/],
  ['an empty name', [['', HASH]], /Nothing called/],
  ['an empty value', [['compose_hash', '']], /empty/],
  ['no value', [['compose_hash', undefined]], /empty/],
  ['a number', [['compose_hash', 5]], /empty/],
  ['a prefix alone', [['compose_hash', '0x']], /64 hex digits/],
  ['half a hash', [['compose_hash', HASH.slice(2)]], /64 hex digits/],
  ['a hash and more', [['compose_hash', `${HASH}00`]], /64 hex digits/],
  ['what is no hex', [['compose_hash', 'zz'.repeat(32)]], /64 hex digits/],
  ['a blank in front', [['compose_hash', ` ${HASH.slice(1)}`]], /64 hex digits/],
  ['a register of another length', [['rtmr0', HASH]], /96 hex digits/],
  ['an odd digit', [['key_provider_info', 'abc']], /in pairs/],
  ['an unknown mode', [['mode', 'TDX']], /no mode/],
  ['a PCR that no bank has', [['pcr32', HASH]], /Nothing called/],
  [
    'a name twice',
    [
      ['compose_hash', HASH],
      ['compose_hash', HASH],
    ],
    /twice/,
  ],
])('refuses %s', (_name, entries, message) => {
  const refused = (): unknown => readExpectations(entries);
  expect(refused).toThrow(message);
  expect(refused).toThrow(expect.objectContaining({ code: 'expectation' }));
});

it.each(['', 'compose_hash', '=', `=${HASH}`])('%j is not NAME=VALUE', (text) => {
  expect(() => splitExpectation(text)).toThrow(expect.objectContaining({ code: 'expectation' }));
});

it('compares everything that it is given, or throws', () => {
  const entry = fc.tuple(
    fc.oneof(fc.constantFrom('compose_hash', 'app_id', 'pcr0', 'mode'), fc.string()),
    fc.oneof(fc.string(), fc.constantFrom(HASH, '', 'tdx', HASH.slice(24))),
  );
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 4 }), (entries) => {
      try {
        expect(Object.keys(readExpectations(entries))).toEqual(entries.map(([name]) => name));
      } catch (error) {
        expect(error).toBeInstanceOf(VerifierError);
      }
    }),
  );
});
