import { decodePem, fromHex, toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import {
  type Attestation,
  AttestationError,
  appraiseTcb,
  attestationFromQuote,
  bootInfo,
  type CollateralSource,
  dcapCollateralFromJson,
  decodeAttestation,
  type RootName,
  replaceRoot,
  type TrustRoots,
  tpmCollateralFromJson,
  vendorRoots,
  verifyAttestation,
  verifyOsImage,
} from './index.ts';

/** One case of the mock evidence: what our verifier must say, and what the original said. */
interface Case {
  readonly id: string;
  readonly mode: string;
  readonly now: number;
  readonly set: string;
  readonly files: Readonly<Record<string, string>>;
  readonly tdx_collateral?: string;
  readonly tpm_collateral?: string;
  readonly report_data: string;
  readonly ours: {
    readonly evidence: 'accept' | 'reject';
    readonly tcb_status?: string;
    readonly advisory_ids?: readonly string[];
    readonly default_policy: 'accept' | 'reject';
  };
  readonly original: { readonly app_info?: Readonly<Record<string, unknown>> };
}

const DIR = 'mock-evidence';
const FORMS = ['v0', 'v1', 'request'];
/** Made before firmware wrote report version 5: it is good now (AMD 56860). */
const OUTDATED: readonly string[] = ['snp-bad-version'];

describeWithFixtures('mock evidence of every mode, with its OS image', `${DIR}/expected.json`, () => {
  const { sets, cases } = fixtureJson<{
    sets: Record<string, { roots: Record<string, string> }>;
    cases: readonly Case[];
  }>(`${DIR}/expected.json`);
  for (const item of cases.filter(({ id }) => !OUTDATED.includes(id))) {
    for (const form of FORMS.filter((name) => name in item.files)) {
      it(`${item.ours.evidence}s ${item.id} (${form})`, async () => {
        const verdict = judge(item, form, roots(sets[item.set]!.roots));
        if (item.ours.evidence === 'reject') {
          await expect(verdict).rejects.toBeInstanceOf(AttestationError);
          return;
        }
        const { verified, info } = await verdict;
        expect(verified.simulated).toBe(true);
        if (item.ours.tcb_status !== undefined) expect(verified.tcbStatus).toBe(item.ours.tcb_status);
        if (item.ours.advisory_ids) expect(verified.advisoryIds).toEqual(item.ours.advisory_ids);
        expect(toHex(verified.reportData)).toBe(item.report_data);
        expect(appraiseTcb(verified, {}, item.now).ok).toBe(item.ours.default_policy === 'accept');
        const expected = item.original.app_info;
        if (expected) expect(info).toEqual({ ...expected, init_script_hashes: undefined });
      });
    }
  }
});

async function judge(item: Case, form: string, trust: TrustRoots) {
  const verified = await verifyAttestation(load(form, item.files[form]!), {
    roots: trust,
    collateral: collateral(item),
    now: item.now,
    platform: { gcpFirmwareEndorsement: false },
  });
  await verifyOsImage(verified);
  const info = bootInfo(verified, { bootTime: false });
  return {
    verified,
    info: {
      app_id: toHex(info.appId),
      compose_hash: toHex(info.composeHash),
      instance_id: toHex(info.instanceId),
      device_id: toHex(info.deviceId),
      mr_system: toHex(info.mrSystem),
      mr_aggregated: toHex(info.mrAggregated),
      os_image_hash: toHex(info.osImageHash),
      key_provider_info: toHex(info.keyProviderInfo),
      init_script_hashes: undefined,
    },
  };
}

function load(form: string, path: string): Attestation {
  if (form !== 'request') return decodeAttestation(fixture(`${DIR}/${path}`));
  const request = fixtureJson<{ quote: string; event_log: string; vm_config: string }>(`${DIR}/${path}`);
  return attestationFromQuote(fromHex(request.quote), request.event_log, request.vm_config);
}

function roots(files: Readonly<Record<string, string>>): TrustRoots {
  return Object.entries(files).reduce(
    (all, [name, path]) =>
      replaceRoot(all, name as RootName, decodePem(fixtureText(`${DIR}/${path}`), 'CERTIFICATE')),
    vendorRoots(),
  );
}

function collateral(item: Case): CollateralSource {
  return {
    tdx: async () => dcapCollateralFromJson(collateralJson(item.tdx_collateral!)),
    tpm: async () => tpmCollateralFromJson(collateralJson(item.tpm_collateral!)),
  };
}

/** A collateral file, or `{base, override}`: another file of its folder with some fields replaced. */
function collateralJson(path: string): Record<string, unknown> {
  const json = fixtureJson<Record<string, unknown>>(`${DIR}/${path}`);
  if (!('base' in json)) return json;
  const folder = path.slice(0, path.lastIndexOf('/') + 1);
  return { ...collateralJson(`${folder}${String(json['base'])}.json`), ...(json['override'] as object) };
}
