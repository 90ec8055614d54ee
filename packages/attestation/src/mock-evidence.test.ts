import { fromHex, toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import {
  type Attestation,
  AttestationError,
  attestationFromQuote,
  bootInfo,
  dcapCollateralFromJson,
  decodeAttestation,
  judgeTcb,
  staticCollateral,
  type VerifiedAttestation,
  vendorRoots,
  verifyAttestation,
  withTdxRoot,
} from './index.ts';

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

/** Cases whose evidence is genuine but of another OS image: judged by `verifyOsImage`. */
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
          return;
        }
        const verified = verdict as VerifiedAttestation;
        if (verdict instanceof Error) throw verdict;
        expect(verified.simulated).toBe(true);
        expect(verified.tcbStatus).toBe(item.ours.tcb_status);
        expect(verified.advisoryIds).toEqual(item.ours.advisory_ids);
        expect(toHex(verified.reportData)).toBe(item.report_data);
        expect(judgeTcb(verified, {}, item.now).ok).toBe(item.ours.default_policy === 'accept');
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
    const { decodePem } = await import('@dstack-cloud/encoding');
    try {
      const verified = await verifyAttestation(load(form, item.files[form]!), {
        roots: withTdxRoot(vendorRoots(), decodePem(rootPem, 'CERTIFICATE')),
        collateral: staticCollateral(dcapCollateralFromJson(collateralJson(item.tdx_collateral!))),
        now: item.now,
      });
      bootInfo(verified, { bootTime: false });
      return verified;
    } catch (error) {
      if (error instanceof AttestationError) return error;
      throw error;
    }
  }
});
