import fc from 'fast-check';
import { expect, it } from 'vitest';
import { escapeHtml } from './escape-html.ts';

it('leaves no markup, nothing that reorders or hides, and the rest as it is', () => {
  expect(escapeHtml('<b title="x">`&\'\u202eabc\u001b[2J\u200b')).toBe(
    '&#60;b title=&#34;x&#34;&#62;&#96;&#38;&#39;\\u{202e}abc\\u{1b}[2J\\u{200b}',
  );
  expect(escapeHtml('Grüße\n\t你好')).toBe('Grüße\n\t你好');
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      expect(escapeHtml(text)).not.toMatch(/[<>"'`\p{Cf}\p{Cs}]|&(?!#\d+;)/u);
    }),
  );
});
