import { encodePem, toBase64, toBase64Url, toHex, utf8 } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AttestationError } from '../errors.ts';
import { vendorRoots } from '../roots/vendor-roots.ts';
import { derForm, derForms } from './der-form.ts';

const CERTIFICATE = vendorRoots().tdx[0]!.der;
const WRITERS = [
  (der: Uint8Array) => der,
  (der: Uint8Array) => utf8(toHex(der)),
  (der: Uint8Array) => utf8(toBase64(der)),
  (der: Uint8Array) => utf8(toBase64Url(der)),
];

describe('forms of a certificate', () => {
  it('gives the same DER for every way of writing it, and of writing that', () => {
    for (const outer of WRITERS) {
      for (const inner of WRITERS)
        expect(derForm(outer(inner(CERTIFICATE)), 'CERTIFICATE')).toEqual(CERTIFICATE);
      expect(derForm(outer(utf8(encodePem('CERTIFICATE', CERTIFICATE))), 'CERTIFICATE')).toEqual(CERTIFICATE);
    }
  });

  it('reads texts of any DER as that DER', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 128, maxLength: 300 }), (contents) => {
        // A length byte of two, as every certificate and list has, is no text.
        const der = Uint8Array.of(0x30, 0x82, contents.length >> 8, contents.length & 255, ...contents);
        for (const write of WRITERS) expect(derForm(write(der), 'X509 CRL')).toEqual(der);
      }),
    );
  });

  it('reads each block of PEM text, and one where one is wanted', () => {
    const two = encodePem('CERTIFICATE', CERTIFICATE).repeat(2);
    expect(derForms(two, 'CERTIFICATE')).toEqual([CERTIFICATE, CERTIFICATE]);
    expect(() => derForm(two, 'CERTIFICATE')).toThrow('Expected one certificate, found 2');
    expect(() => derForm(encodePem('X509 CRL', CERTIFICATE), 'CERTIFICATE')).toThrow('found 0');
    expect(() => derForm(encodePem('TRUSTED CERTIFICATE', CERTIFICATE), 'CERTIFICATE')).toThrow('found 0');
  });

  it.each([
    ['nothing', ''],
    ['words', 'no certificate'],
    ['a page', '<html></html>'],
    ['another structure', toHex(Uint8Array.of(0x31, 0x82, 0, 1, 0))],
    [
      'text within text within text within text',
      [1, 2, 3].reduce((text) => toHex(utf8(text)), toHex(CERTIFICATE)),
    ],
    ['PEM cut short', encodePem('CERTIFICATE', CERTIFICATE).slice(0, -10)],
  ])('refuses %s, and tells what it saw', (_name, text) => {
    expect(() => derForm(text, 'CERTIFICATE')).toThrow(AttestationError);
    try {
      derForm(text, 'CERTIFICATE');
    } catch (error) {
      expect(error).toMatchObject({ code: 'malformed', found: expect.any(String) });
      expect((error as AttestationError).found!.length).toBeLessThan(120);
    }
  });

  it('refuses nothing but with its own error', () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array(), fc.string().map(utf8)), (bytes) => {
        try {
          derForm(bytes, 'CERTIFICATE');
        } catch (error) {
          expect(error).toBeInstanceOf(AttestationError);
        }
      }),
    );
  });

  it('bounds what it reads', () => {
    expect(() => derForm(new Uint8Array((8 << 20) + 1), 'X509 CRL')).toThrow(/bytes/);
  });
});
