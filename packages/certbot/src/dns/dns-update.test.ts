import { fromHex, toHex } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { caaValue } from '../caa.ts';
import { certReportData } from '../report-data.ts';
import { caaData, signedUpdate, updateResult } from './dns-update.ts';

const KEY = {
  name: 'acme-key',
  algorithm: 'hmac-sha256' as const,
  secret: Uint8Array.from({ length: 32 }, (_, index) => index),
};
const ASKED = { id: 7, time: 1 };
const NAME = '_acme-challenge.apps.example.com';
const VALUE = 'HFiz-Bbfj8a-Ha7lJen59u3E-cJztWcMqNkIw_Y-8q0';
const ACCOUNT = 'https://acme-v02.api.letsencrypt.org/acme/acct/2584877296';

describe('a signed update of a zone', () => {
  it('is that of another implementation, byte for byte', () => {
    const change = { name: NAME, action: 'add' as const, ttl: 60, data: { txt: VALUE } };
    const { message, mac } = signedUpdate('example.com', [change], KEY, { id: 0x1234, time: 1_700_000_000 });
    expect(toHex(mac)).toBe('d26712c9c71d81ffbfea80f78a63b0c639cebc1260f41417b873f562b5d6ce34');
    expect(toHex(message)).toBe(
      '123428000001000000010001076578616d706c6503636f6d00000600010f5f61636d652d6368616c6c656e67650461707073076578616d706c6503636f6d00001000010000003c002c2b4846697a2d4262666a38612d4861376c4a656e35397533452d634a7a7457634d714e6b49775f592d3871300861636d652d6b65790000fa00ff00000000003d0b686d61632d7368613235360000006553f100012c0020d26712c9c71d81ffbfea80f78a63b0c639cebc1260f41417b873f562b5d6ce34123400000000',
    );
  });

  it('removes one value of a name and no other', () => {
    const change = { name: NAME, action: 'remove' as const, ttl: 60, data: { txt: VALUE } };
    const { message } = signedUpdate('example.com', [change], KEY, { id: 1, time: 1 });
    expect(toHex(message)).toContain(
      '0f5f61636d652d6368616c6c656e67650461707073076578616d706c6503636f6d00001000fe00000000002c2b4846697a2d4262666a38612d4861376c4a656e35397533452d634a7a7457634d714e6b49775f592d387130',
    );
  });

  it('takes no answer that is to another message, unsigned, or signed by another key', () => {
    const { mac } = signedUpdate('example.com', [], KEY, { id: 7, time: 1 });
    const unsigned = Buffer.from('0007a8000000000000000000', 'hex');
    expect(updateResult(unsigned, ASKED, mac, KEY)).toBeUndefined();
    expect(updateResult(Buffer.from('0008a8000000000000000000', 'hex'), ASKED, mac, KEY)).toBeUndefined();
    expect(updateResult(Buffer.from('0007a8050000000000000000', 'hex'), ASKED, mac, KEY)).toBe(5);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (rest) => {
        const answer = Buffer.concat([Buffer.from('0007a800', 'hex'), rest]);
        expect(updateResult(answer, ASKED, mac, KEY)).toBeUndefined();
      }),
    );
  });
});

describe('CAA records', () => {
  it('have the bytes of the original', () => {
    expect(toHex(caaData({ tag: 'issue', value: ';' }))).toBe('000569737375653b');
    const value = caaValue('letsencrypt.org', ACCOUNT);
    expect(toHex(caaData({ tag: 'issue', value }))).toBe(
      '000569737375656c657473656e63727970742e6f72673b76616c69646174696f6e6d6574686f64733d646e732d30313b6163636f756e747572693d68747470733a2f2f61636d652d7630322e6170692e6c657473656e63727970742e6f72672f61636d652f616363742f32353834383737323936',
    );
    expect(toHex(caaData({ tag: 'issuewild', value }))).toMatch(/^0009697373756577696c64/);
  });
});

describe('what a TEE quotes about certificates', () => {
  it('is the hash of the original', () => {
    expect(toHex(certReportData('acme-account', ACCOUNT))).toBe(
      'e5e5547e6c245fa9cc3c5f66c40e3b869ab8fa8a0abafefbf340cb6c3021b6c0d4119611fed03528033c77f17a931979a2bde1314ecdc8ce95fab07508ed9675',
    );
    const spki = fromHex(
      '3059301306072a8648ce3d020106082a8648ce3d030107034200046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5',
    );
    expect(toHex(certReportData('zt-cert', spki))).toBe(
      '9dad7c3f5e419ab39a659ea82ea0931b83f813ba07566468509e6465ae9aa316c2f3d698e213e365420cbcaed0a01ada9268334df38519983b8bc25bad9112b5',
    );
  });
});
