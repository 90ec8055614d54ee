/** SEV-SNP reports of real machines, made after public bug reports. */
import { vendorRoots } from '@dstack-cloud/attestation';
import { decodePemAll, utf8Text } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture } from '@dstack-cloud/test/fixtures';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { staticSource } from '../collateral/static-source.ts';
import type { VerifierPolicy } from '../policy/appraise.ts';
import type { Report } from '../report.ts';
import { verify } from '../verify.ts';

const FOLDER = 'public-cases/snp';
const NOW = Date.parse('2026-06-01T00:00:00Z') / 1000;
const file = (name: string): Uint8Array => fixture(`${FOLDER}/${name}`);

function reportOf(
  report: Uint8Array,
  chain: readonly Uint8Array[],
  policy: VerifierPolicy = {},
): Promise<Report> {
  return verify(report, {
    roots: vendorRoots(),
    collateral: staticSource({ dcap: [], tpm: [] }),
    now: NOW,
    chain,
    policy,
  });
}

describeWithFixtures('a report of version 5 from a Genoa', `${FOLDER}/report-v5-genoa.bin`, () => {
  const report = file('report-v5-genoa.bin');
  const [vcek, ask] = [file('vcek-genoa.der'), file('ask-genoa.der')];
  const others = decodePemAll(utf8Text(file('milan-ask-ark-asvk.pem')), 'CERTIFICATE');
  const genoaRoot = vendorRoots().sevSnp.genoa[0]!.der;

  it('is genuine, and good enough by default', async () => {
    const found = await reportOf(report, [ask, vcek]);
    expect(found.reason).toBeUndefined();
    expect(found).toMatchObject({
      isValid: true,
      simulated: false,
      tcbStatus: 'UpToDate',
      policy: { ok: true, reasons: [] },
    });
    expect(utf8Text(found.reportData!.subarray(0, 17))).toBe('hello-attestation');
  });

  it('is so whatever the order of the certificates, and whatever stands beside them', async () => {
    const all = [vcek, ask, genoaRoot, ...others];
    await fc.assert(
      fc.asyncProperty(fc.shuffledSubarray(all, { minLength: 2 }), async (chain) => {
        const found = await reportOf(report, chain);
        expect(found.isValid).toBe(chain.includes(vcek) && chain.includes(ask));
      }),
      { numRuns: 40 },
    );
  });

  it.each([
    ['the minimum of its parts', { bootLoader: 10, tee: 0, snp: 27, microcode: 27 }, true],
    ['a newer microcode', { microcode: 28 }, false],
    ['a newer boot loader', { bootLoader: 11 }, false],
    ['a part that it does not have', { fmc: 0 }, false],
  ])('is appraised by a minimum TCB: %s', async (_name, minimum, ok) => {
    const found = await reportOf(report, [ask, vcek], { snp: { minimumTcb: { Genoa: minimum } } });
    expect([found.isValid, found.policy.ok]).toEqual([true, ok]);
    const other = await reportOf(report, [ask, vcek], { snp: { minimumTcb: { Milan: { microcode: 255 } } } });
    expect(other.policy.ok).toBe(true);
  });
});

describeWithFixtures('a report that a VLEK signed', `${FOLDER}/vlek-report.bin`, () => {
  const report = file('vlek-report.bin');
  const bundle = decodePemAll(utf8Text(file('milan-ask-ark-asvk.pem')), 'CERTIFICATE');

  describe.each([
    ['its own certificates', [file('vlek.der'), ...bundle]],
    ['those of a VCEK of another machine', [file('vcek-genoa.der'), file('ask-genoa.der')]],
    ['none', []],
  ] as const)('with %s', (_name, chain) => {
    it('is refused for that, first of all', async () => {
      const found = await reportOf(report, chain);
      expect(found).toMatchObject({ isValid: false, code: 'unsupported' });
      expect(found.reason).toContain('VLEK');
      expect(found.checks.map(({ id, ok }) => [id, ok])).toEqual([
        ['snp.report', true],
        ['snp.signing-key', false],
      ]);
    });
  });
});
