import { decodePem, fromHex, toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import {
  type Attestation,
  AttestationError,
  appraiseTcb,
  attestationFromQuote,
  bootInfo,
  dcapCollateralFromJson,
  decodeAttestation,
  staticCollateral,
  type VerifiedAttestation,
  vendorRoots,
  verifyAttestation,
  withTdxRoot,
} from './index.ts';
import { verifyOsImage } from './measurements/image/verify-os-image.ts';

interface Case {
  id: string;
  mode: string;
  now: number;
  set: string;
  files: Record<string, string>;
  tdx_collateral?: string;
  report_data: string;
  ours: {
    evidence: string;
    tcb_status?: string;
    advisory_ids?: string[];
    default_policy: string;
    reason: string;
  };
  original: { is_valid: boolean; app_info?: Record<string, string> };
}

const DIR = 'mock-evidence';

function collateralJson(path: string): Record<string, string> {
  const json = fixtureJson<Record<string, unknown>>(`${DIR}/${path}`);
  if (!('base' in json)) return json as Record<string, string>;
  const base = collateralJson(`${path.slice(0, path.lastIndexOf('/') + 1)}${String(json['base'])}.json`);
  return { ...base, ...(json['override'] as object) };
}

function load(name: string, path: string): Attestation {
  if (name !== 'request') return decodeAttestation(fixture(`${DIR}/${path}`));
  const request = fixtureJson<{ quote: string; event_log: string; vm_config: string }>(`${DIR}/${path}`);
  return attestationFromQuote(fromHex(request.quote), request.event_log, request.vm_config);
}

/** Code and check of each refusal: a bad case must fail for its own reason. */
const REASONS: Readonly<Record<string, readonly [string, string | undefined]>> = {
  'tdx-bad-acpi-digest': ['mismatch', 'tdx.rtmr0'],
  'tdx-bad-app-id-length': ['event-log', undefined],
  'tdx-bad-component-count': ['malformed', 'tdx.tcb-info-form'],
  'tdx-bad-crl-at-next-update': ['expired', 'tdx.pck-chain'],
  'tdx-bad-debug': ['debug', 'tdx.debug'],
  'tdx-bad-image-hash': ['image', 'image.tdx'],
  'tdx-bad-log-disagrees': ['event-log', 'tdx.event-log'],
  'tdx-bad-memory-size': ['image', 'image.tdx'],
  'tdx-bad-module-svn-low': ['tcb', 'tdx.module'],
  'tdx-bad-module-unknown': ['tcb', 'tdx.module'],
  'tdx-bad-mrsignerseam': ['mismatch', 'tdx.module'],
  'tdx-bad-mrsignerseam-endorsed': ['attributes', 'tdx.mrsignerseam'],
  'tdx-bad-mrtd': ['image', 'image.tdx'],
  'tdx-bad-no-config': ['image', 'image.tdx'],
  'tdx-bad-pceid': ['collateral-invalid', 'tdx.tcb-info-platform'],
  'tdx-bad-pck-ca-not-ca': ['chain-invalid', 'tdx.pck-path'],
  'tdx-bad-pck-ca-revoked': ['revoked', 'tdx.pck-chain'],
  'tdx-bad-pck-crl-wrong-issuer': ['signature-invalid', 'tdx.pck-chain'],
  'tdx-bad-pck-expired': ['expired', 'tdx.pck-path'],
  'tdx-bad-pod-payload': ['mismatch', 'pod.report-data'],
  'tdx-bad-preimage': ['event-log', 'tdx.event-preimage'],
  'tdx-bad-qe-attributes': ['mismatch', 'tdx.qe-attributes'],
  'tdx-bad-qe-identity-expired': ['expired', 'tdx.qe-identity-dates'],
  'tdx-bad-qe-identity-sgx': ['collateral-invalid', 'tdx.qe-identity-kind'],
  'tdx-bad-qe-miscselect': ['mismatch', 'tdx.qe-miscselect'],
  'tdx-bad-qe-mrsigner': ['mismatch', 'tdx.qe-mrsigner'],
  'tdx-bad-qe-revoked': ['tcb', 'tdx.tcb-status'],
  'tdx-bad-qe-signature': ['signature-invalid', 'tdx.qe-report-signature'],
  'tdx-bad-qe-svn': ['tcb', 'tdx.qe-level'],
  'tdx-bad-qe-tail': ['mismatch', 'tdx.qe-report-binding'],
  'tdx-bad-quote-tampered': ['signature-invalid', 'tdx.quote-signature'],
  'tdx-bad-report-data': ['mismatch', 'tdx.report-data'],
  'tdx-bad-root-crl-expired': ['expired', 'tdx.root-crl'],
  'tdx-bad-rtmr1': ['image', 'image.tdx'],
  'tdx-bad-rtmr3-payload': ['mismatch', 'tdx.rtmr3'],
  'tdx-bad-sec-reserved': ['attributes', 'tdx.attributes'],
  'tdx-bad-tcb-info-altered': ['signature-invalid', 'tdx.tcb-info-signature'],
  'tdx-bad-tcb-info-future': ['not-yet-valid', 'tdx.tcb-info-dates'],
  'tdx-bad-tcb-info-sgx': ['collateral-invalid', 'tdx.tcb-info-tee'],
  'tdx-bad-tcb-info-signature': ['signature-invalid', 'tdx.tcb-info-signature'],
  'tdx-bad-tcb-revoked': ['tcb', 'tdx.tcb-status'],
  'tdx-bad-tcb-signer-expired': ['expired', 'tdx.tcb-info-chain'],
  'tdx-bad-tcb-signer-revoked': ['revoked', 'tdx.tcb-info-chain'],
  'tdx-bad-tee-type': ['unsupported', 'tdx.quote-form'],
  'tdx-bad-v5-body-type': ['unsupported', 'tdx.quote-form'],
  'tdx-bad-vendor': ['unsupported', 'tdx.quote-form'],
  'tdx-bad-version': ['unsupported', 'tdx.quote-form'],
  'tdx-bad-wrong-root': ['signature-invalid', 'tdx.pck-path'],
  'wire-bad-empty': ['malformed', undefined],
  'wire-bad-huge-length': ['too-large', undefined],
  'wire-bad-quote-variant': ['unsupported', undefined],
  'wire-bad-truncated': ['malformed', undefined],
  'wire-bad-v0-trailing': ['malformed', undefined],
  'wire-bad-version-byte': ['unsupported', undefined],
};

describeWithFixtures('mock evidence: dstack-tdx', `${DIR}/expected.json`, () => {
  const { sets, cases } = fixtureJson<{
    sets: Record<string, { roots: Record<string, string> }>;
    cases: Case[];
  }>(`${DIR}/expected.json`);
  for (const item of cases.filter((candidate) => candidate.mode === 'dstack-tdx')) {
    for (const form of ['v0', 'v1', 'request'].filter((name) => name in item.files)) {
      it(`${item.id} (${form})`, async () => {
        const pem = fixtureText(`${DIR}/${sets[item.set]!.roots['tdx']}`);
        const verdict = await judge(item, form, pem);
        if (item.ours.evidence === 'reject') {
          expect(verdict).toBeInstanceOf(AttestationError);
          const { code, check } = verdict as AttestationError;
          const reason = REASONS[item.id];
          if (reason) expect([code, check]).toEqual(reason);
          return;
        }
        const verified = verdict as VerifiedAttestation;
        if (verdict instanceof Error) throw verdict;
        expect(verified.simulated).toBe(true);
        expect(verified.tcbStatus).toBe(item.ours.tcb_status);
        expect(verified.advisoryIds).toEqual(item.ours.advisory_ids);
        expect(toHex(verified.reportData)).toBe(item.report_data);
        expect(appraiseTcb(verified, {}, item.now).ok).toBe(item.ours.default_policy === 'accept');
        const info = item.original.app_info;
        if (!info) return;
        const ours = bootInfo(verified, { bootTime: false });
        expect({
          app_id: toHex(ours.appId),
          compose_hash: toHex(ours.composeHash),
          instance_id: toHex(ours.instanceId),
          device_id: toHex(ours.deviceId),
          mr_system: toHex(ours.mrSystem),
          mr_aggregated: toHex(ours.mrAggregated),
          os_image_hash: toHex(ours.osImageHash),
          key_provider_info: toHex(ours.keyProviderInfo),
        }).toEqual(
          Object.fromEntries(Object.entries(info).filter(([name]) => name !== 'init_script_hashes')),
        );
      });
    }
  }

  async function judge(
    item: Case,
    form: string,
    rootPem: string,
  ): Promise<VerifiedAttestation | AttestationError> {
    try {
      const verified = await verifyAttestation(load(form, item.files[form]!), {
        roots: withTdxRoot(vendorRoots(), decodePem(rootPem, 'CERTIFICATE')),
        collateral: staticCollateral(dcapCollateralFromJson(collateralJson(item.tdx_collateral!))),
        now: item.now,
      });
      bootInfo(verified, { bootTime: false });
      await verifyOsImage(verified);
      return verified;
    } catch (error) {
      if (error instanceof AttestationError) return error;
      throw error;
    }
  }
});
