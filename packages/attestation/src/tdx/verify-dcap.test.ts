import { fromBase64, fromHex, toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import { p256Spki } from '../crypto/key-kind.ts';
import { nodeCrypto } from '../crypto/node-crypto.ts';
import { VerificationCache } from '../crypto/verification-cache.ts';
import { webCrypto } from '../crypto/web-crypto.ts';
import { AttestationError } from '../errors.ts';
import { vendorRoots } from '../roots/vendor-roots.ts';
import type { DcapResult } from '../tdx-evidence.ts';
import { parseTdxQuote } from '../tdx-quote/quote.ts';
import { verifyContext } from '../verify.ts';
import { parseCertificateChain } from '../x509/certificate.ts';
import { validatePath } from '../x509/validate-path.ts';
import { dcapCollateralFromJson } from './collateral-json.ts';
import { readPckPlatform } from './pck-extension.ts';
import { staticCollateral } from './static-collateral.ts';
import { verifyDcap } from './verify-dcap.ts';

type Json = Record<string, string>;

interface ExpectedFile {
  kind: string;
  quote: Record<string, unknown> & { qe: Record<string, unknown>; version: number };
  checks: {
    pck_chain_len: number;
    pck_not_before?: number;
    pck?: { ppid: string; pcesvn: number; cpusvn: string; pceid: string; fmspc: string };
  };
  collateral?: string;
  validity_window?: { not_before: [number, string]; not_after: [number, string] };
  verify?: { now: number; error?: string; result?: Record<string, unknown> }[];
}

const backends = [nodeCrypto, webCrypto];

function quoteBytes(path: string): Uint8Array {
  const text = () => fixtureText(`attestation/${path}`);
  if (path.endsWith('.hex')) return fromHex(text().trim());
  if (path.endsWith('.b64')) return fromBase64(text().replace(/\s/g, ''));
  if (path.endsWith('.json')) return fromBase64((JSON.parse(text()) as { tdx: { quote: string } }).tdx.quote);
  return fixture(`attestation/${path}`);
}

function judge(
  quote: Uint8Array,
  collateral: Json,
  now: number,
  crypto = nodeCrypto,
): Promise<DcapResult | AttestationError> {
  const read = dcapCollateralFromJson(collateral);
  const options = { roots: vendorRoots(), collateral: staticCollateral(read), now, crypto };
  const context = verifyContext({ ...options, cache: new VerificationCache() });
  return Promise.resolve()
    .then(() => verifyDcap(parseTdxQuote(quote), read, context))
    .catch((error: unknown) => {
      if (error instanceof AttestationError) return error;
      throw error;
    });
}

/** Which check must fail where the independent verifier gave this text. */
const CHECK_OF: Readonly<Record<string, string | undefined>> = {
  'QE Identity issue date is in the future': 'tdx.qe-identity-dates',
  'QE Identity expired': 'tdx.qe-identity-dates',
  'TCBInfo issue date is in the future': 'tdx.tcb-info-dates',
  'TCBInfo expired': 'tdx.tcb-info-dates',
  CrlExpired: 'tdx.pck-chain',
};

describeWithFixtures('DCAP on real quotes', 'attestation/expected.json', () => {
  const { files } = fixtureJson<{ files: Record<string, ExpectedFile> }>('attestation/expected.json');

  for (const [path, file] of Object.entries(files)) {
    if (!['tdx-quote', 'json-quote'].includes(file.kind)) continue;
    it(`${path}: fields`, () => {
      const quote = parseTdxQuote(quoteBytes(path));
      const { qe, ...body } = file.quote;
      expect(quote.version).toBe(body.version);
      expect(quote.signed.length).toBe(body['signed_len']);
      expect(toHex(quote.qeId)).toBe((body['user_data'] as string).slice(0, 32));
      expect(enclaveFields(quote.qeReport)).toEqual(qe);
      if (quote.td) expect(body).toMatchObject(tdFields(quote.td));
      else expect(body).toMatchObject(enclaveFields(quote.enclave!));
      if ('mr_service_td' in body) expect(toHex(quote.td!.mrServiceTd!)).toBe(body['mr_service_td']);
    });

    if (file.checks.pck_chain_len === 3) {
      it(`${path}: signatures up to Intel's root`, async () => {
        const quote = parseTdxQuote(quoteBytes(path));
        if (quote.certification.type !== 5) throw new Error('certification type');
        const [leaf, ...intermediates] = parseCertificateChain(quote.certification.pem);
        const rules = {
          anchors: vendorRoots().tdx,
          now: file.checks.pck_not_before!,
          revocation: 'none',
        } as const;
        const cache = new VerificationCache();
        await validatePath(leaf!, intermediates, rules, nodeCrypto, cache);
        const { ppid, cpuSvn, pceSvn, pceId, fmspc } = readPckPlatform(leaf!);
        expect({
          ppid: toHex(ppid),
          cpusvn: toHex(cpuSvn),
          pcesvn: pceSvn,
          pceid: toHex(pceId),
          fmspc: toHex(fmspc),
        }).toEqual(pick(file.checks.pck as never, 'ppid', 'cpusvn', 'pcesvn', 'pceid', 'fmspc'));
        const signed = (spki: Uint8Array, signature: Uint8Array, data: Uint8Array) =>
          cache.verified(nodeCrypto, 'ecdsa-sha256', spki, signature, data);
        expect(await signed(leaf!.spki, quote.qeReportSignature, quote.qeReportBytes)).toBe(true);
        expect(await signed(p256Spki(quote.attestationKey), quote.signature, quote.signed)).toBe(true);
        const binding = nodeCrypto.hash('sha256', quote.attestationKey, quote.qeAuthData);
        expect(toHex(quote.qeReport.reportData)).toBe(toHex(binding) + '00'.repeat(32));
      });
    }

    for (const { now, error, result } of file.verify ?? []) {
      it.each(backends)(`${path} at ${now} ($name)`, async (crypto) => {
        const collateral = fixtureJson<Json>(`attestation/${file.collateral!}`);
        const verdict = await judge(quoteBytes(path), collateral, now, crypto);
        if (error !== undefined) {
          expect(verdict).toBeInstanceOf(AttestationError);
          expect((verdict as AttestationError).check).toBe(
            CHECK_OF[error.split(/[ {]/, 1)[0]!] ?? CHECK_OF[error],
          );
          return;
        }
        if (verdict instanceof Error) throw verdict;
        const qe = result!['qe_status'] as { status: string };
        expect({
          status: verdict.status,
          advisory_ids: verdict.advisoryIds,
          platform_level_status: verdict.platformStatus,
          qe: verdict.qeStatus,
          ppid: toHex(verdict.ppid),
          fmspc: toHex(verdict.fmspc),
        }).toEqual({
          status: result!['status'],
          advisory_ids: result!['advisory_ids'],
          platform_level_status: result!['platform_level_status'],
          qe: qe.status,
          ppid: result!['ppid'],
          fmspc: result!['fmspc'],
        });
        expect(verdict.simulated).toBe(false);
        expect([verdict.validFrom, verdict.validUntil]).toEqual([
          file.validity_window!.not_before[0],
          file.validity_window!.not_after[0],
        ]);
      });
    }
  }
});

describeWithFixtures('DCAP on tampered evidence', 'attestation/mutations.json', () => {
  const { quote_mutations: quotes, collateral_mutations: collaterals } = fixtureJson<{
    quote_mutations: { base: string; offset: number; xor: number; now: number; expect: string }[];
    collateral_mutations: { base: string; quote: string; now: number; change: string; expect: string }[];
  }>('attestation/mutations.json');
  const tdxCollateral = () => fixtureJson<Json>('attestation/tdx/dcapqvl-tdx-quote.collateral.json');
  const sgxCollateral = () => fixtureJson<Json>('attestation/sgx/dcapqvl-sgx-quote.collateral.json');

  const QUOTE_CHECKS: [RegExp, string | undefined, string][] = [
    [/vendor|version|key type/, undefined, 'unsupported'],
    [/QE report hash/, 'tdx.qe-report-binding', 'mismatch'],
    [/qe_report signature/, 'tdx.qe-report-signature', 'signature-invalid'],
    [/signature/, 'tdx.quote-signature', 'signature-invalid'],
  ];

  for (const mutation of quotes) {
    it(`byte ${mutation.offset}: ${mutation.expect}`, async () => {
      const bytes = quoteBytes(mutation.base).slice();
      bytes[mutation.offset]! ^= mutation.xor;
      const verdict = await judge(bytes, tdxCollateral(), mutation.now);
      const [, check, code] = QUOTE_CHECKS.find(([text]) => text.test(mutation.expect))!;
      expect(verdict).toMatchObject({ code, check });
    });
  }

  const CHANGES: Readonly<Record<string, [(collateral: Json) => Json, string | undefined]>> = {
    'tcb_info: append one space': [
      (json) => ({ ...json, tcb_info: `${json['tcb_info']} ` }),
      'tdx.tcb-info-signature',
    ],
    'tcb_info: replace UpToDate by SWHardeningNeeded': [
      (json) => ({ ...json, tcb_info: json['tcb_info']!.replace('UpToDate', 'SWHardeningNeeded') }),
      'tdx.tcb-info-signature',
    ],
    'take tcb_info+tcb_info_signature from the SGX collateral': [
      (json) => ({ ...json, ...pick(sgxCollateral(), 'tcb_info', 'tcb_info_signature') }),
      'tdx.tcb-info-platform',
    ],
    'take qe_identity+signature from the SGX collateral': [
      (json) => ({ ...json, ...pick(sgxCollateral(), 'qe_identity', 'qe_identity_signature') }),
      'tdx.qe-identity-kind',
    ],
    'pck_crl: take the Processor CA CRL of the SGX collateral': [
      (json) => ({ ...json, ...pick(sgxCollateral(), 'pck_crl') }),
      'tdx.pck-chain',
    ],
    'swap root_ca_crl and pck_crl': [
      (json) => ({ ...json, root_ca_crl: json['pck_crl']!, pck_crl: json['root_ca_crl']! }),
      undefined,
    ],
    'tcb_info_issuer_chain: drop the root': [
      (json) => ({
        ...json,
        tcb_info_issuer_chain: `${json['tcb_info_issuer_chain']!.split('-----END CERTIFICATE-----')[0]}-----END CERTIFICATE-----\n`,
      }),
      undefined,
    ],
  };

  for (const mutation of collaterals) {
    it(`collateral: ${mutation.change}`, async () => {
      const [change, check] = CHANGES[mutation.change]!;
      const verdict = await judge(quoteBytes(mutation.quote), change(tdxCollateral()), mutation.now);
      if (check === undefined) expect(verdict).toMatchObject({ status: 'UpToDate' });
      else expect(verdict).toMatchObject({ name: 'AttestationError', check });
    });
  }
});

function pick(json: Json, ...names: string[]): Json {
  return Object.fromEntries(names.map((name) => [name, json[name]!]));
}

function enclaveFields(report: NonNullable<ReturnType<typeof parseTdxQuote>['enclave']>) {
  return {
    cpu_svn: toHex(report.cpuSvn),
    misc_select: toHex(report.miscSelect),
    attributes: toHex(report.attributes),
    mr_enclave: toHex(report.mrEnclave),
    mr_signer: toHex(report.mrSigner),
    isv_prod_id: report.isvProdId,
    isv_svn: report.isvSvn,
    report_data: toHex(report.reportData),
  };
}

function tdFields(td: NonNullable<ReturnType<typeof parseTdxQuote>['td']>) {
  return {
    tee_tcb_svn: toHex(td.teeTcbSvn),
    mr_seam: toHex(td.mrSeam),
    mr_signer_seam: toHex(td.mrSignerSeam),
    seam_attributes: toHex(td.seamAttributes),
    td_attributes: toHex(td.tdAttributes),
    xfam: toHex(td.xfam),
    mr_td: toHex(td.mrTd),
    mr_config_id: toHex(td.mrConfigId),
    mr_owner: toHex(td.mrOwner),
    mr_owner_config: toHex(td.mrOwnerConfig),
    rt_mr0: toHex(td.rtmrs[0]),
    rt_mr1: toHex(td.rtmrs[1]),
    rt_mr2: toHex(td.rtmrs[2]),
    rt_mr3: toHex(td.rtmrs[3]),
    report_data: toHex(td.reportData),
  };
}
