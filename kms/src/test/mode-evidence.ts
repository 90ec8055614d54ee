import {
  type AttestationMode,
  type CollateralSource,
  dcapCollateralFromJson,
  encodeAttestation,
  type RootName,
  ratlsReportData,
  replaceRoot,
  type TrustRoots,
  tpmCollateralFromJson,
  vendorRoots,
} from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { generateP256Key, type P256Key, p256KeyPem } from '@dstack-cloud/keys';
import { OID } from '@dstack-cloud/ra-tls';
import type { SimulatedPlatform } from '@dstack-cloud/tee-simulator';
import { type Forged, SEED_A } from '@dstack-cloud/verifier/test-support/forged';
import { type GcpDraft, gcpDraft, measureGcp, sealGcp } from '@dstack-cloud/verifier/test-support/gcp-forge';
import { mockKeys } from '@dstack-cloud/verifier/test-support/mock-keys';
import { type NitroDraft, nitroDraft, sealNitro } from '@dstack-cloud/verifier/test-support/nitro-forge';
import { SNP, type SnpDraft, sealSnp, snpDraft } from '@dstack-cloud/verifier/test-support/snp-forge';
import { measure, sealTdx, type TdxDraft, tdxDraft } from '@dstack-cloud/verifier/test-support/tdx-forge';
import type { Trust } from '../evidence/trust.ts';
import type { ClientIdentity } from './ask.ts';
import { forgeCertificate } from './forge-certificate.ts';

/** Time at which the mock evidence is good, unix seconds. */
export const MODES_NOW = 1_781_524_800;

const keys = mockKeys(SEED_A);

/** A maker of evidence of one mode under test roots: bound to report data, with changes before it is signed. */
export type ModeEvidence<D> = (change?: (draft: D) => void) => (reportData: Uint8Array) => Forged;

function maker<D>(
  draftOf: () => D,
  bind: (draft: D, reportData: Uint8Array) => void,
  seal: (draft: D) => Forged,
): ModeEvidence<D> {
  return (change) => (reportData) => {
    const draft = draftOf();
    bind(draft, reportData);
    change?.(draft);
    return seal(draft);
  };
}

const bindNitro = (draft: NitroDraft, reportData: Uint8Array): void => {
  draft.reportData = reportData;
  draft.members.set('user_data', reportData);
};

export const tdxEvidence: ModeEvidence<TdxDraft> = maker(
  () => tdxDraft(keys),
  (draft, reportData) => {
    draft.reportData = reportData;
    measure(draft);
  },
  sealTdx,
);

export const gcpEvidence: ModeEvidence<GcpDraft> = maker(
  () => gcpDraft(keys),
  (draft, reportData) => {
    draft.tdx.reportData = reportData;
    measureGcp(draft);
  },
  sealGcp,
);

export const snpEvidence: ModeEvidence<SnpDraft> = maker(
  () => snpDraft(keys),
  (draft, reportData) => {
    draft.reportData = reportData;
    draft.report.set(reportData, SNP.reportData);
  },
  sealSnp,
);

export const nitroEvidence: ModeEvidence<NitroDraft> = maker(
  () => nitroDraft(keys, 'nsm'),
  bindNitro,
  sealNitro,
);

export const nitroTpmEvidence: ModeEvidence<NitroDraft> = maker(
  () => nitroDraft(keys, 'nitro-tpm'),
  bindNitro,
  sealNitro,
);

/** Makers of good evidence, of every mode. */
export const EVIDENCE: Readonly<Record<AttestationMode, () => (reportData: Uint8Array) => Forged>> = {
  'dstack-tdx': tdxEvidence,
  'dstack-gcp-tdx': gcpEvidence,
  'dstack-amd-sev-snp': snpEvidence,
  'dstack-nitro-enclave': nitroEvidence,
  'dstack-aws-nitro-tpm': nitroTpmEvidence,
};

/** A self-signed client certificate with evidence in extension .8, or in .1 and .2 for bare TDX. */
export function modeClient(
  evidence: (reportData: Uint8Array) => Forged,
  options: { boundTo?: P256Key; legacyLog?: Uint8Array } = {},
): ClientIdentity {
  const key = generateP256Key();
  const { attestation } = evidence(ratlsReportData((options.boundTo ?? key).spki));
  const { quote } = attestation;
  const extensions =
    options.legacyLog !== undefined && quote.mode === 'dstack-tdx'
      ? [
          { oid: OID.tdxQuote, content: quote.quote },
          { oid: OID.tdxEventLog, content: options.legacyLog },
        ]
      : [{ oid: OID.attestation, content: encodeAttestation(attestation) }];
  return { cert: forgeCertificate(key, extensions), key: p256KeyPem(key) };
}

/** Trusts the roots of the mock evidence with its collateral, and the simulated platform that the KMS itself is on. */
export function modesTrust(platform: SimulatedPlatform, only?: readonly RootName[]): Trust {
  const samples = Object.values(EVIDENCE).map((evidence) => evidence()(new Uint8Array(64)));
  const named = samples.flatMap(({ roots }) => Object.entries(roots) as [RootName, Uint8Array][]);
  const roots = named
    .filter(([name]) => only === undefined || only.includes(name))
    .reduce<TrustRoots>((all, [name, der]) => replaceRoot(all, name, der), vendorRoots());
  const own = platform.collateralSource(() => MODES_NOW);
  const [dcap, tpm] = samples[1]!.collateral;
  const collateral: CollateralSource = {
    tdx: async (request) =>
      request.fmspc === toHex(platform.fmspc) ? own.tdx(request) : dcapCollateralFromJson(dcap),
    tpm: async () => tpmCollateralFromJson(tpm),
  };
  return {
    roots: {
      ...roots,
      tdx: [...roots.tdx, { name: 'the KMS itself', der: platform.rootDer, simulated: true }],
    },
    collateral,
    simulated: true,
  };
}
