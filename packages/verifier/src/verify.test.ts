import { AttestationError, type CollateralSource, vendorRoots } from '@dstack-cloud/attestation';
import { parseRaTlsCertificate } from '@dstack-cloud/ra-tls';
import { describeWithFixtures, fixture } from '@dstack-cloud/test/fixtures';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { verify } from './verify.ts';

const NOTHING: CollateralSource = {
  tdx: () => Promise.reject(new AttestationError('collateral-unavailable', 'none')),
};
const reportOf = (bytes: Uint8Array, now = 1770000000) =>
  verify(bytes, { roots: vendorRoots(), collateral: NOTHING, now, readRaTls: parseRaTlsCertificate });

describe('input of no sense', () => {
  it.each([
    ['nothing', ''],
    ['blanks', ' \n\t '],
    ['an empty object', '{}'],
    ['an empty list', '[]'],
    ['null', 'null'],
    ['JSON cut short', '{"quote": "04'],
    ['a quote that is no hex', '{"quote": "zz"}'],
    ['a quote of one byte', '{"quote": "04"}'],
    ['a quote of nothing', '{"quote": ""}'],
    ['a quote of one byte, deep', '{"tdx": {"quote": "BA=="}}'],
    ['a quote and an image without event log', '{"quote": "04", "vm_config": "{}"}'],
    ['an attestation that is a number', '{"attestation": 5}'],
    ['an attestation of nothing', '{"attestation": {}}'],
    ['a TPM quote without PCRs', '{"attestation": {"tpm": {"ecc_p256": {}}}}'],
    ['JSON in hex in JSON, deep', `{"attestation":"${'7b7d'.repeat(3)}"}`],
    ['an empty certificate', '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n'],
    ['a broken certificate', '-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n'],
    ['half a certificate', '-----BEGIN CERTIFICATE-----\nMIIB'],
    ['a hash', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
  ])('%s is refused with a code', async (_name, text) => {
    const report = await reportOf(new TextEncoder().encode(text));
    expect(report.isValid).toBe(false);
    expect(report.code).toEqual(expect.any(String));
    expect(report.policy.ok).toBe(false);
  });

  it('random bytes and texts are refused, never thrown at', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.uint8Array({ maxLength: 2000 }),
          fc.json().map((t) => new TextEncoder().encode(t)),
          fc
            .record({
              quote: fc.uint8Array({ maxLength: 60 }).map((b) => Buffer.from(b).toString('hex')),
              event_log: fc.option(fc.constantFrom('', '[]', '{}'), { nil: undefined }),
            })
            .map((json) => new TextEncoder().encode(JSON.stringify(json))),
        ),
        async (bytes) => {
          expect((await reportOf(bytes)).isValid).toBe(false);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('too much is refused without being read', async () => {
    const report = await reportOf(new Uint8Array(25 * 1024 * 1024));
    expect(report.code).toBe('too-large');
  });
});

const FILES = [
  'dstack/attestation-v0-dstack-tdx.bin',
  'dstack/nitro-attestation-v0.bin',
  'dstack/quote-report.json',
  'dstack/sev-snp-attestation-v0.bin',
  'nitro/evervault-valid.cose',
  'nitro/nitrotpm-attestation.json',
  'tdx/gcp-tdx-quote.json',
  'tdx/tappd-tdx-quote.hex',
  'tdx/azure-tdx-quote.b64',
  'tpm/gcp-tdx-vtpm-quote.json',
  'tpm/gce-uca_tpm_ecc_sign_cert.pem',
  'synthetic/gcp-tdx-attestation-v0.bin',
];

describeWithFixtures('damaged evidence of every form', 'attestation/expected.json', () => {
  for (const file of FILES) {
    it(`${file}: a report for every damage, and no accepted one`, async () => {
      const original = fixture(`attestation/${file}`);
      await fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 1, max: original.length }),
          fc.array(fc.tuple(fc.nat(original.length - 1), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }),
          async (end, changes) => {
            const damaged = original.slice(0, end);
            for (const [at, value] of changes) if (at < end) damaged[at] = value;
            // A time at which none of the documents is fresh, so that nothing can be accepted at all.
            expect((await reportOf(damaged, 1800000000)).isValid && !file.includes('vtpm')).toBe(false);
          },
        ),
        { numRuns: 60 },
      );
    });
  }
});
