import fc from 'fast-check';
import { expect, test } from 'vitest';
import { publicText } from './public-text.ts';

test.each([
  ['Compose hash not allowed', 'Compose hash not allowed'],
  ['fetch failed: https://rpc.example/v2/SECRET-KEY (401)', 'fetch failed: <address> (401)'],
  ['two http://a/b, wss://c', 'two <address> <address>'],
  ['line\nbreak\u0000and\u001b[31m', 'line break and [31m'],
  ['\ud800x', '\ufffdx'],
  ['allowed\u202edeined', 'allowed\\u{202e}deined'],
])('%j', (text, shown) => expect(publicText(text)).toBe(shown));

test('is at most 512 bytes of whole characters, whatever comes', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 900 }), (text) => {
      const shown = publicText(text);
      const bytes = Buffer.byteLength(shown);
      expect(bytes).toBeLessThanOrEqual(512);
      expect(Buffer.from(shown).toString('utf8')).toBe(shown);
      expect(shown).not.toMatch(/[\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}]/u);
    }),
  );
});
