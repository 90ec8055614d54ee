import { decodePem, fromHex, toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import { describe, expect, it } from 'vitest';
import { decodeAttestation } from './codec/decode-attestation.ts';
import type { CollateralSource } from './collateral-source.ts';
import { VerificationCache } from './crypto/verification-cache.ts';
import { AttestationError } from './errors.ts';
import { bootInfo } from './measurements/boot-info.ts';
import { withTdxRoot } from './roots/replace-root.ts';
import { vendorRoots } from './roots/vendor-roots.ts';
import { dcapCollateralFromJson } from './tdx/collateral-json.ts';
import { staticCollateral } from './tdx/static-collateral.ts';
import { inspectAttestation, verifyAttestation } from './verify.ts';
import { parseCertificate } from './x509/certificate.ts';

describeWithFixtures('evidence recorded from the original KMS', 'kms-original/client-app.json', () => {
  const client = fixtureJson<{ cert_der: string; attestation: string; report_data: string }>(
    'kms-original/client-app.json',
  );
  const roots = withTdxRoot(
    vendorRoots(),
    decodePem(fixtureText('kms-original/tdx-test-root.pem'), 'CERTIFICATE'),
  );
  const collateral = dcapCollateralFromJson(fixtureJson('kms-original/collateral.json'));
  const attestation = decodeAttestation(fromHex(client.attestation));
  const spki = parseCertificate(fromHex(client.cert_der)).spki;
  const now = Date.parse('2026-11-23T11:00:00Z') / 1000;
  const options = { roots, collateral: staticCollateral(collateral), now, ratlsSpki: spki };

  it('is genuine under the recorded test root, and simulated', async () => {
    const verified = await verifyAttestation(attestation, options);
    expect(verified.simulated).toBe(true);
    expect(verified.tcbStatus).toBe('UpToDate');
    expect(toHex(verified.reportData)).toBe(client.report_data);
    const info = bootInfo(verified, { bootTime: false });
    expect(toHex(info.appId)).toMatch(/^11223344/);
    expect(toHex(info.composeHash)).toBe('22'.repeat(32));
    expect(toHex(info.instanceId)).toBe('33'.repeat(20));
    expect(verified.checks.every((check) => check.ok)).toBe(true);
    expect(verified.checks.map((check) => check.id)).toContain('ratls.binding');
  });

  it.each([
    ['the simulator root when not configured', { roots: vendorRoots() }, 'tdx.pck-path'],
    ['another key', { ratlsSpki: new Uint8Array(91) }, 'ratls.binding'],
    ['another challenge', { expectedReportData: new Uint8Array(64) }, 'report-data.expected'],
    ['expired collateral', { now: now + 400 * 86_400 }, 'tdx.tcb-info-dates'],
    ['collateral from the future', { now: now - 400 * 86_400 }, 'tdx.tcb-info-dates'],
    ['a clock that is no number', { now: Number.NaN }, 'time'],
    ['a clock at infinity', { now: Number.POSITIVE_INFINITY }, 'time'],
  ])('refuses %s', async (_name, change, check) => {
    const inspection = await inspectAttestation(attestation, { ...options, ...change });
    expect(inspection.ok).toBe(false);
    if (inspection.ok) return;
    expect(inspection.error.check).toBe(check);
    const last = inspection.checks.at(-1)!;
    expect([last.id, last.ok]).toEqual([check, false]);
    expect(inspection.checks.slice(0, -1).every((item) => item.ok)).toBe(true);
  });

  it('judges again what a cache remembers, when the time is another', async () => {
    const cache = new VerificationCache();
    await verifyAttestation(attestation, { ...options, cache });
    await expect(
      verifyAttestation(attestation, { ...options, cache, now: now + 400 * 86_400 }),
    ).rejects.toThrow(AttestationError);
    const again = await verifyAttestation(attestation, { ...options, cache });
    const fresh = await verifyAttestation(attestation, { ...options, cache: new VerificationCache() });
    expect(again.checks).toEqual(fresh.checks);
  });

  it('does not take the refusal of a concurrent run at another time for its own', async () => {
    const cache = new VerificationCache();
    const [early, timely, late] = await Promise.allSettled([
      verifyAttestation(attestation, { ...options, cache, now: now - 400 * 86_400 }),
      verifyAttestation(attestation, { ...options, cache }),
      verifyAttestation(attestation, { ...options, cache, now: now + 400 * 86_400 }),
    ]);
    expect(early).toMatchObject({ status: 'rejected', reason: { code: 'not-yet-valid' } });
    expect(timely.status).toBe('fulfilled');
    expect(late).toMatchObject({ status: 'rejected', reason: { code: 'expired' } });
  });

  it('does not take what passed under one root for another', async () => {
    const cache = new VerificationCache();
    await verifyAttestation(attestation, { ...options, cache });
    await expect(verifyAttestation(attestation, { ...options, cache, roots: vendorRoots() })).rejects.toThrow(
      AttestationError,
    );
  });

  it('tells the source whether its collateral is good, whatever the quote is', async () => {
    const changed = { ...collateral, tcbInfo: `${collateral.tcbInfo} ` };
    const settled: [object, boolean][] = [];
    const sourceOf = (answer: typeof collateral): CollateralSource => ({
      tdx: async () => answer,
      settled: async (...verdict) => void settled.push(verdict),
    });
    await expect(
      verifyAttestation(attestation, { ...options, collateral: sourceOf(changed) }),
    ).rejects.toMatchObject({ check: 'tdx.tcb-info-signature' });
    await verifyAttestation(attestation, { ...options, collateral: sourceOf(collateral) });
    const forged = { ...attestation, reportData: new Uint8Array(64).fill(9) };
    await expect(
      verifyAttestation(forged, { ...options, collateral: sourceOf(collateral) }),
    ).rejects.toThrow();
    expect(settled).toEqual([
      [changed, false],
      [collateral, true],
      [collateral, true],
    ]);
  });

  it('fetches nothing for a quote whose PCK chain is of no configured root', async () => {
    const source: CollateralSource = {
      tdx: () => {
        throw new Error('must not be called');
      },
    };
    await expect(
      verifyAttestation(attestation, { ...options, collateral: source, roots: vendorRoots() }),
    ).rejects.toMatchObject({ check: 'tdx.pck-path' });
  });

  it('passes on that collateral cannot be had', async () => {
    const source: CollateralSource = {
      tdx: () => Promise.reject(new AttestationError('collateral-unavailable', 'down')),
    };
    await expect(verifyAttestation(attestation, { ...options, collateral: source })).rejects.toMatchObject({
      code: 'collateral-unavailable',
      check: 'tdx.collateral',
    });
  });
});

describe('trust roots', () => {
  it('a configured root that is the vendor one byte for byte is no simulation', () => {
    const roots = vendorRoots();
    expect(withTdxRoot(roots, roots.tdx[0]!.der.slice())).toEqual(roots);
  });

  describeWithFixtures('pinned', 'attestation/roots/intel-sgx-root-ca.der', () => {
    it('are those of the fixtures', () => {
      const pem = (path: string) => decodePem(fixtureText(`attestation/roots/${path}`), 'CERTIFICATE');
      expect(vendorRoots().tdx[0]!.der).toEqual(fixture('attestation/roots/intel-sgx-root-ca.der'));
      expect(vendorRoots().nitro[0]!.der).toEqual(pem('aws-nitro-root-g1.pem'));
      expect(vendorRoots().gcpTpm[0]!.der).toEqual(pem('gcp-ek-ak-root.pem'));
    });
  });
});
