/** Everything of the fixtures that a person could hand to the browser's verifier, with its time and roots. */
import { encodePem, toBase64, utf8 } from '@dstack-cloud/encoding';
import type { RootName, VerifyFileInput } from '@dstack-cloud/verifier/browser';
import { fixture, fixtureJson } from '../support/fixtures.ts';

export interface VerifierCase {
  readonly name: string;
  readonly input: VerifyFileInput;
}

interface MockCase {
  readonly id: string;
  readonly now: number;
  readonly set: string;
  readonly files: Readonly<Record<string, string>>;
  readonly tdx_collateral?: string;
  readonly tpm_collateral?: string;
}

const MOCK = 'mock-evidence';
/** Members of a case that are evidence; the others belong to it. */
const EVIDENCE_FILES = ['v0', 'v1', 'request', 'quote', 'report', 'document', 'cert'];

/** Mock evidence of all modes, good and bad, in every form in which it is stored. */
export function mockCases(): VerifierCase[] {
  const { sets, cases } = fixtureJson<{
    sets: Record<string, { roots: Record<RootName, string> }>;
    cases: readonly MockCase[];
  }>(`${MOCK}/expected.json`);
  return cases.flatMap((item) => {
    const { ask, vcek, ...files } = item.files;
    const roots = Object.entries(sets[item.set]!.roots).map(([name, path]) => ({
      name: name as RootName,
      certificate: fixture(`${MOCK}/${path}`),
    }));
    const settings = {
      now: item.now,
      roots,
      firmwareEndorsement: false,
      collateral: [item.tdx_collateral, item.tpm_collateral]
        .filter((path) => path !== undefined)
        .map((path) => utf8(JSON.stringify(collateralJson(path)))),
    };
    return Object.entries(files)
      .filter(([form]) => EVIDENCE_FILES.includes(form))
      .map(([form, path]) => ({
        name: `${item.id} (${form})`,
        input: {
          ...settings,
          evidence: fixture(`${MOCK}/${path}`),
          ...(form === 'report' && ask && vcek
            ? { chain: [ask, vcek].map((file) => fixture(`${MOCK}/${file}`)) }
            : {}),
        },
      }));
  });
}

/** A client's certificate recorded from the original KMS, and a quote with its collateral in one file. */
export function wrappedCases(): VerifierCase[] {
  const { cert_der: hex } = fixtureJson<{ cert_der: string }>('kms-original/client-app.json');
  const certificate = {
    now: Date.parse('2026-11-23T11:00:00Z') / 1000,
    roots: [{ name: 'tdx' as const, certificate: fixture('kms-original/tdx-test-root.pem') }],
    collateral: [fixture('kms-original/collateral.json')],
  };
  const der = new Uint8Array(Buffer.from(hex, 'hex'));
  const pem = encodePem('CERTIFICATE', der);
  const bundle = {
    format: 'dstack-evidence-bundle',
    version: 1,
    time: 1_751_624_191,
    evidence: toBase64(fixture('attestation/tdx/dcapqvl-tdx-quote.bin')),
    chain: [],
    collateral: {
      documents: [fixtureJson('attestation/tdx/dcapqvl-tdx-quote.collateral.json')],
      snp: [],
      pck_certificates: [],
      crls: {},
    },
  };
  return [
    { name: 'RA-TLS certificate, DER', input: { ...certificate, evidence: der } },
    { name: 'RA-TLS certificate, PEM', input: { ...certificate, evidence: utf8(pem) } },
    { name: 'offline bundle', input: { evidence: utf8(JSON.stringify(bundle)) } },
  ];
}

/** A collateral file may be another one with some members replaced. */
function collateralJson(path: string): Record<string, unknown> {
  const json = fixtureJson<Record<string, unknown>>(`${MOCK}/${path}`);
  if (typeof json['base'] !== 'string') return json;
  const folder = path.slice(0, path.lastIndexOf('/') + 1);
  return { ...collateralJson(`${folder}${json['base']}.json`), ...(json['override'] as object) };
}

/** Real evidence, under the vendors' roots, at the time it was made for. */
export function realCases(): VerifierCase[] {
  const folder = 'attestation';
  const seconds = (milliseconds: number): number => Math.floor(milliseconds / 1000);
  const real = (
    path: string,
    now: number,
    more: { collateral?: readonly string[]; chain?: readonly string[] } = {},
  ): VerifierCase => ({
    name: path,
    input: {
      evidence: fixture(`${folder}/${path}`),
      now,
      collateral: (more.collateral ?? []).map((file) => fixture(`${folder}/${file}`)),
      chain: (more.chain ?? []).map((file) => fixture(`${folder}/${file}`)),
    },
  });
  const tdx = { collateral: ['tdx/dcapqvl-tdx-quote.collateral.json'] };
  const sgx = { collateral: ['sgx/dcapqvl-sgx-quote.collateral.json'] };
  const snp = { chain: ['dstack/sev-snp-ask.pem', 'dstack/sev-snp-vcek.pem'] };
  return [
    ...[1_750_329_146, 1_751_624_191, 1_752_919_235].map((now) =>
      real('tdx/dcapqvl-tdx-quote.bin', now, tdx),
    ),
    ...[1_750_330_570, 1_751_624_924, 1_752_919_279].map((now) =>
      real('sgx/dcapqvl-sgx-quote.bin', now, sgx),
    ),
    real('tdx/tappd-tdx-quote.hex', 1_751_624_191, tdx),
    real('tdx/azure-tdx-quote.b64', 1_751_624_191),
    real('tdx/gcp-tdx-quote.json', 1_751_624_191),
    real('tdx/gotdx-quote-v5.bin', 1_751_624_191),
    real('nitro/evervault-valid.cose', seconds(1_665_651_482_136)),
    real('nitro/evervault-valid.cose', seconds(1_665_651_482_136) + 86_400),
    real('nitro/nitrotpm-attestation.json', seconds(1_770_113_522_437)),
    real('tpm/gcp-tdx-vtpm-quote.json', 1_770_113_522),
    real('dstack/nitro-attestation-v0.bin', seconds(1_766_678_659_346)),
    real('dstack/nitro-attestation-v0-debug.bin', seconds(1_766_650_846_577)),
    real('dstack/attestation-v0-dstack-tdx.bin', 1_766_650_846),
    real('dstack/quote-report.json', 1_766_650_846),
    real('dstack/tdx-lite-getquote.json', 1_766_650_846),
    real('dstack/sev-snp-attestation-v0.bin', 1_790_000_000, snp),
    real('eventlog/gcp-debian10-tpm.bin', 1_781_524_800),
  ];
}
