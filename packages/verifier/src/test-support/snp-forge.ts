import { createHash } from 'node:crypto';
import type { SnpAttestationQuote } from '@dstack-cloud/attestation';
import { concatBytes, decodePem, encodePem, fromHex, utf8, utf8Text } from '@dstack-cloud/encoding';
import { baseAttestation, baseRoot, type Forged, type Keys } from './forged.ts';
import { type CertificatePlan, planOf, writeCertificate } from './forged-certificate.ts';
import { type MockKey, signWith } from './mock-keys.ts';
import type { Json } from './tdx-forge.ts';

/** Offsets in an SEV-SNP report (docs/protocol/evidence.md section 11). */
export const SNP = {
  version: 0,
  policy: 8,
  vmpl: 0x30,
  algorithm: 0x34,
  currentTcb: 0x38,
  platformInfo: 0x40,
  keyInfo: 0x48,
  reportData: 0x50,
  measurement: 0x90,
  hostData: 0xc0,
  reportedTcb: 0x180,
  cpuid: 0x188,
  chipId: 0x1a0,
  committedTcb: 0x1e0,
  launchTcb: 0x1f0,
  signature: 0x2a0,
} as const;
const GUIDS = {
  ask: '4ab7b379bbac4fe4a02f05aef327c782',
  vcek: '63da758de6644564adc5f4b93be8accd',
  vlek: 'a8074bc2a25a483eaae639c045a0b8a1',
} as const;

/** An SEV-SNP report before it is signed. */
export interface SnpDraft {
  now: number;
  readonly keys: Keys;
  report: Uint8Array;
  readonly certificates: Record<'ark' | 'ask' | 'vcek', CertificatePlan>;
  chain: (draft: SnpDraft) => Uint8Array[];
  signer: MockKey;
  alterReport: (report: Uint8Array) => Uint8Array;
  mrConfig: string;
  reportData: Uint8Array;
  /** Members of the configuration; `sev_snp_measurement` is written as text. */
  config: Json;
  measurement: Json;
}

export function snpDraft(keys: Keys): SnpDraft {
  const attestation = baseAttestation('snp-good');
  const { report, certChain, mrConfig } = attestation.quote as SnpAttestationQuote;
  const [ark, ask, vcek] = ['sev-root', 'sev-ask', 'sev-vcek'].map((label) => keys(label));
  const config = JSON.parse(attestation.config) as Json;
  const read = (index: number): Uint8Array => decodePem(utf8Text(certChain[index]!), 'CERTIFICATE');
  return {
    now: 1781524800,
    keys,
    report: Uint8Array.from(report),
    certificates: {
      ark: planOf(baseRoot('sev-snp'), ark!.spki, ark!),
      ask: planOf(read(0), ask!.spki, ark!),
      vcek: planOf(read(1), vcek!.spki, ask!),
    },
    chain: pemChain,
    signer: vcek!,
    alterReport: (bytes) => bytes,
    mrConfig,
    reportData: attestation.reportData,
    config,
    measurement: JSON.parse(config.sev_snp_measurement),
  };
}

export function pemChain({ certificates }: SnpDraft): Uint8Array[] {
  return [certificates.ask, certificates.vcek].map((plan) =>
    utf8(encodePem('CERTIFICATE', writeCertificate(plan))),
  );
}

/** The kernel's certificate table with these entries. */
export function tableChain(...names: (keyof typeof GUIDS)[]): (draft: SnpDraft) => Uint8Array[] {
  return ({ certificates }) => {
    const bodies = names.map((name) => writeCertificate(certificates[name === 'ask' ? 'ask' : 'vcek']));
    let offset = 24 * (names.length + 1);
    const entries = names.map((name, i) => {
      const entry = new Uint8Array(24);
      entry.set(fromHex(GUIDS[name]));
      const view = new DataView(entry.buffer);
      view.setUint32(16, offset, true);
      view.setUint32(20, bodies[i]!.length, true);
      offset += bodies[i]!.length;
      return entry;
    });
    return [concatBytes(...entries, new Uint8Array(24), ...bodies)];
  };
}

/** Another MrConfig document, with HOST_DATA and configuration to fit. */
export function setMrConfig(draft: SnpDraft, document: string): void {
  draft.mrConfig = document;
  draft.config.mr_config = document;
  const hash = createHash('sha256').update(`dstack-mr-config-v3:\0${document}`).digest();
  draft.report.set(hash, SNP.hostData);
}

export function sealSnp(draft: SnpDraft): Forged {
  const raw = signWith(draft.signer, draft.report.subarray(0, SNP.signature));
  const report = Uint8Array.from(draft.report);
  report.fill(0, SNP.signature);
  report.set(raw.slice(0, 48).reverse(), SNP.signature);
  report.set(raw.slice(48).reverse(), SNP.signature + 72);
  const root = writeCertificate(draft.certificates.ark);
  const config =
    typeof draft.config === 'string'
      ? draft.config
      : JSON.stringify({ ...draft.config, sev_snp_measurement: measurementText(draft) });
  return {
    attestation: {
      quote: {
        mode: 'dstack-amd-sev-snp',
        report: draft.alterReport(report),
        certChain: draft.chain(draft),
        mrConfig: draft.mrConfig,
      },
      runtimeEvents: [],
      reportData: draft.reportData,
      config,
    },
    now: draft.now,
    roots: { sev_snp_milan: root, sev_snp_genoa: root, sev_snp_turin: root },
    collateral: [],
  };
}

function measurementText({ measurement }: SnpDraft): unknown {
  return typeof measurement === 'object' && measurement !== null ? JSON.stringify(measurement) : measurement;
}
