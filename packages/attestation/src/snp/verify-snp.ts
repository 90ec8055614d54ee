import { equalBytes, toHex, utf8 } from '@dstack-cloud/encoding';
import type { Attestation, SnpAttestationQuote } from '../attestation.ts';
import { mrConfigHash, readMrConfig } from '../codec/mr-config.ts';
import type { SnpCollateral } from '../collateral-source.ts';
import { AttestationError } from '../errors.ts';
import { requireExpectedReportData } from '../expected-report-data.ts';
import { requireOptionalRevocation } from '../optional-revocation.ts';
import type { SnpProduct } from '../platform-evidence.ts';
import { anchorParts } from '../roots/anchor-parts.ts';
import type { TrustRoot } from '../roots/trust-roots.ts';
import { cachedStage } from '../stage.ts';
import type { SnpTcbParts } from '../tcb-policy/snp-policy.ts';
import type { PlatformResult, VerifyContext } from '../verify-context.ts';
import { anchorCertificate } from '../x509/anchor-certificate.ts';
import { parseCrl } from '../x509/crl.ts';
import type { ValidatedPath } from '../x509/validate-path.ts';
import { readCertChain, type SnpCertificates } from './certificate-chain.ts';
import { isAliasCheckComplete, requirePolicy, requireVcekSigned } from './policy.ts';
import { parseSnpReport, productOf, SNP_SIGNED_BYTES, type SnpReport, splitTcb } from './report.ts';
import { requireVcekOfReport, verifySnpChain } from './verify-chain.ts';

const SECTION = 'docs/protocol/verification.md section 7';
/** Order in which a version 2 report, which does not tell its family, is tried. */
const PRODUCTS: readonly SnpProduct[] = ['Genoa', 'Milan', 'Turin'];

/** dstack-amd-sev-snp: report, chain, policy, and the bindings to report_data and the MrConfig document. */
export async function verifySnp(attestation: Attestation, context: VerifyContext): Promise<PlatformResult> {
  const quote = attestation.quote as SnpAttestationQuote;
  const { report, ...rest } = await verifySnpReport(quote.report, quote.certChain, context, (parsed) =>
    requireBinding(attestation, quote, parsed, context),
  );
  return snpResult(report, quote.mrConfig, rest);
}

/** REPORT_DATA and HOST_DATA are those of the attestation. */
async function requireBinding(
  attestation: Attestation,
  quote: SnpAttestationQuote,
  report: SnpReport,
  context: VerifyContext,
): Promise<void> {
  requireEqual('report-data', attestation.reportData, report.reportData, context);
  requireEqual('host-data', mrConfigHash(quote.mrConfig), report.hostData, context);
  await context.checks.step('snp.mr-config', 'docs/protocol/app-compose.md section 5', () =>
    readMrConfig(quote.mrConfig),
  );
  requireExpectedReportData(report.reportData, context);
}

export interface VerifiedReport {
  readonly report: SnpReport;
  readonly product: SnpProduct;
  readonly path: ValidatedPath;
}

/**
 * A report on its own, with the certificates that came along. Without them they are fetched, once nothing is wrong with
 * what the report says; and revocation lists once all else is good.
 * @param alone what else needs nobody to be asked
 */
export async function verifySnpReport(
  bytes: Uint8Array,
  certChain: readonly Uint8Array[],
  context: VerifyContext,
  alone: (report: SnpReport) => Promise<void> = async () => undefined,
): Promise<VerifiedReport> {
  const { checks, crypto, cache } = context;
  const report = await checks.step('snp.report', SECTION, () => parseSnpReport(bytes));
  // Before all else: under a VLEK nothing that follows would say anything of this chip.
  requireVcekSigned(report, context);
  checks.require(report.signatureAlgorithm === 1, {
    id: 'snp.signature-algorithm',
    reference: SECTION,
    code: 'unsupported',
    message: 'The report is not signed with ECDSA P-384 and SHA-384',
    expected: '1',
    found: String(report.signatureAlgorithm),
  });
  const candidates = requireProducts(report, context);
  if (certChain.length === 0) {
    requirePolicy(report, context);
    await alone(report);
  }
  const { product, path } = await verifyFamily(report, candidates, certChain, context);
  const reference = SECTION;
  const vcek = path.chain[0]!;
  const key = await checks.attempt('snp.signature', SECTION, () => cache.key(crypto, vcek.spki));
  const signed = bytes.subarray(0, SNP_SIGNED_BYTES);
  checks.require(
    key.kind === 'p384' && (await crypto.verify(key, 'ecdsa-sha384', report.signature, signed)),
    {
      id: 'snp.signature',
      reference: SECTION,
      code: 'signature-invalid',
      message: 'The report is not signed by its VCEK',
    },
  );
  requireVcekOfReport(vcek, report, product, path.anchor.simulated, context);
  if (certChain.length > 0) {
    requirePolicy(report, context);
    await alone(report);
  }
  await requireOptionalRevocation(path, { id: 'snp.revocation', reference, mode: 'soft' }, context);
  return { report, product, path };
}

/** What a verified report says. */
export function snpResult(
  report: SnpReport,
  mrConfig: string,
  { product, path }: Omit<VerifiedReport, 'report'>,
): PlatformResult {
  const { currentTcb, reportedTcb, committedTcb, launchTcb } = report;
  const current = [reportedTcb, committedTcb, launchTcb].every((tcb) => equalBytes(tcb, currentTcb));
  return {
    simulated: path.anchor.simulated,
    reportData: report.reportData,
    tcbStatus: current ? 'UpToDate' : 'OutOfDate',
    advisoryIds: [],
    rawDeviceId: report.chipId,
    registers: { measurement: report.measurement, host_data: report.hostData },
    validFrom: path.validFrom,
    validUntil: path.validUntil,
    evidence: {
      kind: 'sev-snp',
      product,
      chipId: report.chipId,
      measurement: report.measurement,
      hostData: report.hostData,
      mrConfig,
    },
    snp: {
      product,
      reportedTcb: partsOf(reportedTcb, product),
      aliasCheckComplete: isAliasCheckComplete(report),
      simulated: path.anchor.simulated,
    },
  };
}

/** Numbers only: what is kept of a result must not keep the report. */
function partsOf(tcb: Uint8Array, product: SnpProduct): SnpTcbParts {
  const { fmc, bootLoader, tee, snp, microcode } = splitTcb(tcb, product);
  return { ...(fmc === undefined ? {} : { fmc }), bootLoader, tee, snp, microcode };
}

function requireProducts(report: SnpReport, { checks }: VerifyContext): readonly SnpProduct[] {
  if (!report.cpuid) return PRODUCTS;
  const product = productOf(report.cpuid);
  checks.require(product !== undefined, {
    id: 'snp.family',
    reference: SECTION,
    code: 'unsupported',
    message: 'The report is of an unknown processor family',
    expected: 'Milan, Genoa or Turin',
    found: `family ${report.cpuid.family}, model ${report.cpuid.model}`,
  });
  return [product!];
}

/** A chain of one of the candidate families; remembered by its certificates, the roots and the family. */
async function verifyFamily(
  report: SnpReport,
  candidates: readonly SnpProduct[],
  certChain: readonly Uint8Array[],
  context: VerifyContext,
): Promise<{ product: SnpProduct; path: ValidatedPath }> {
  if (certChain.length === 0) {
    const { product, answer } = await fetchCertificates(report, candidates, context);
    const settled = (isGood: boolean) => context.collateral.settled?.(answer, isGood);
    try {
      const path = await verifyFetched(product, answer, context);
      await settled(true);
      return { product, path };
    } catch (error) {
      // All of the chain was served: no report can make it fail.
      if (error instanceof AttestationError) await settled(false);
      throw error;
    }
  }
  const anchors = candidates.flatMap((product) => [utf8(product), ...anchorParts(roots(product, context))]);
  return cachedStage('snp-chain', [...certChain, ...anchors], context, async (checks) => {
    const carried = await checks.step('snp.certificates', SECTION, () => readCertChain(certChain));
    // The issuer's name tells the family where the report does not: AMD names its keys SEV-Milan and so on.
    const product =
      candidates.find((name) => roots(name, context).some((root) => names(root, carried))) ?? candidates[0]!;
    const path = await verifySnpChain(carried, roots(product, context), [], product, { ...context, checks });
    return { product, path, validFrom: path.validFrom, validUntil: path.validUntil };
  });
}

function names(root: TrustRoot, { issuers }: SnpCertificates): boolean {
  const { subject } = anchorCertificate(root);
  return issuers.some(({ issuer }) => equalBytes(subject, issuer));
}

function roots(product: SnpProduct, context: VerifyContext): readonly TrustRoot[] {
  return context.roots.sevSnp[product.toLowerCase() as 'milan' | 'genoa' | 'turin'];
}

async function verifyFetched(
  product: SnpProduct,
  { ask, vcek, crl }: SnpCollateral,
  context: VerifyContext,
): Promise<ValidatedPath> {
  const lists = crl ? [parseCrl(crl)] : [];
  return verifySnpChain(readCertChain([ask, vcek]), roots(product, context), lists, product, context);
}

async function fetchCertificates(
  report: SnpReport,
  candidates: readonly SnpProduct[],
  { collateral, options }: VerifyContext,
): Promise<{ product: SnpProduct; answer: SnpCollateral }> {
  const { chipId, reportedTcb } = report;
  let refusal: unknown;
  for (const product of candidates) {
    try {
      if (!collateral.snp) break;
      return { product, answer: await collateral.snp({ product, chipId, reportedTcb }, options.permit) };
    } catch (error) {
      if (!(error instanceof AttestationError) || error.code !== 'collateral-unavailable') throw error;
      refusal = error;
    }
  }
  throw new AttestationError('collateral-unavailable', 'The certificates of the report are not available', {
    check: 'snp.certificates',
    cause: refusal,
  });
}

function requireEqual(
  what: 'report-data' | 'host-data',
  expected: Uint8Array,
  found: Uint8Array,
  { checks }: VerifyContext,
): void {
  checks.require(equalBytes(expected, found), {
    id: `snp.${what}`,
    reference: what === 'host-data' ? 'docs/protocol/app-compose.md section 5' : SECTION,
    code: 'mismatch',
    message:
      what === 'host-data'
        ? 'HOST_DATA is not the hash of the MrConfig document'
        : 'The report is for other report data',
    expected: toHex(expected),
    found: toHex(found),
  });
}
