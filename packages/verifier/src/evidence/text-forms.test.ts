import { AttestationError } from '@dstack-cloud/attestation';
import { toBase64, toBase64Url, toHex, utf8 } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import { describe, expect, it } from 'vitest';
import { VerifierError } from '../errors.ts';
import { recogniseEvidence } from './recognise.ts';
import { reportDataOf } from './report-data-text.ts';

const RAW = 'mock-evidence/set-a/raw';
const WRITERS: Readonly<Record<string, (bytes: Uint8Array) => string>> = {
  hex: toHex,
  'hex with prefix': (bytes) => `0x${toHex(bytes)}`,
  base64: toBase64,
  'base64 without padding': (bytes) => toBase64(bytes).replace(/=+$/, ''),
  base64url: toBase64Url,
  'base64url with padding': (bytes) => toBase64(bytes).replaceAll('+', '-').replaceAll('/', '_'),
  'base64 in lines': (bytes) => toBase64(bytes).replace(/.{64}/g, '$&\r\n'),
};
const FILES = {
  attestation: 'mock-evidence/set-a/evidence/tdx-good.v0.bin',
  'attestation of version 1': 'mock-evidence/set-a/evidence/tdx-good.v1.bin',
  quote: `${RAW}/tdx-good.quote.bin`,
  'Nitro document': 'attestation/nitro/evervault-valid.cose',
  'SEV-SNP report': 'public-cases/snp/report-v5-genoa.bin',
};

describeWithFixtures('evidence as text', FILES['SEV-SNP report'], () => {
  const cases = Object.entries(FILES).flatMap(([what, path]) =>
    Object.keys(WRITERS).map((form) => [what, form, path] as const),
  );

  it.each(cases)('%s in %s is what it is in bytes', (_what, form, path) => {
    const bytes = fixture(path);
    const { form: _, ...expected } = recogniseEvidence(bytes);
    const { form: found, ...evidence } = recogniseEvidence(utf8(WRITERS[form]!(bytes)));
    expect(evidence).toEqual(expected);
    expect(found).toMatch(/-(hex|base64)$/);
  });

  it.each(Object.keys(WRITERS))('a request with members in %s', (form) => {
    const write = WRITERS[form]!;
    const request = fixtureJson<Record<string, string>>(`${RAW}/tdx-good-raw.request.json`);
    const { form: _, ...expected } = recogniseEvidence(utf8(JSON.stringify(request)));
    const quote = write(fixture(FILES.quote));
    const log = fixtureText(`${RAW}/tdx-good.eventlog.json`);
    for (const event_log of [log, JSON.parse(log) as unknown, write(utf8(log))]) {
      const body = utf8(JSON.stringify({ ...request, quote, event_log }));
      const { form: _form, ...evidence } = recogniseEvidence(body);
      expect(evidence).toEqual(expected);
    }
    const { form: __, ...whole } = recogniseEvidence(fixture(FILES.attestation));
    const attestation = recogniseEvidence(
      utf8(JSON.stringify({ attestation: write(fixture(FILES.attestation)) })),
    );
    expect(attestation).toEqual({ ...whole, form: 'request-json' });
  });

  it.each<[string, (bytes: Uint8Array) => string]>([
    ['hex that lost a digit', (bytes) => toHex(bytes).slice(1)],
    ['padded base64 that lost a digit', (bytes) => toBase64(bytes).slice(1)],
    ['two alphabets', (bytes) => toBase64(bytes).replace('+', '-')],
    [
      'padding in the middle',
      (bytes) => `${toBase64(bytes.subarray(0, 100))}${toBase64(bytes.subarray(100))}`,
    ],
    ['a letter of another script', (bytes) => toBase64(bytes).replace('A', '\u0410')],
  ])('%s is refused', (_name, write) => {
    // Of a length that fills no group of base64, with both characters that the alphabets differ in.
    const bytes = fixture(FILES.quote).subarray(0, 5009);
    expect(() => recogniseEvidence(utf8(write(bytes)))).toThrow(/./);
    expect(() => recogniseEvidence(utf8(JSON.stringify({ quote: write(bytes) })))).toThrow(/./);
    try {
      recogniseEvidence(utf8(write(bytes)));
    } catch (error) {
      expect(error instanceof VerifierError || error instanceof AttestationError).toBe(true);
    }
  });
});

describe('report data that a person gives', () => {
  const bytes = Uint8Array.from({ length: 64 }, (_, i) => (i * 37 + 251) & 255);

  it.each(Object.entries(WRITERS))('in %s', (_form, write) => {
    expect(reportDataOf(write(bytes))).toEqual(bytes);
    expect(reportDataOf(write(bytes.subarray(0, 20)))).toEqual(bytes.subarray(0, 20));
  });

  it.each([
    ['hex digits alone are hex', 'abcd', 2],
    ['also where base64 would fit', 'deadbeef', 4],
    ['another digit makes it base64', 'deadbeeg', 6],
  ])('%s', (_name, text, length) => {
    expect(reportDataOf(text)).toHaveLength(length);
  });

  it.each([
    ['nothing', ''],
    ['hex that lost a digit', 'abc'],
    ['65 bytes', 'ab'.repeat(65)],
    ['65 bytes of base64', toBase64(new Uint8Array(65).fill(0xfb))],
    ['words', 'not a challenge'],
  ])('refuses %s', (_name, text) => {
    expect(() => reportDataOf(text)).toThrow(VerifierError);
  });
});
