import {
  AttestationError,
  nitroResult,
  nitroTpmResult,
  type PlatformResult,
  p256Spki,
  parseCertificate,
  requireExpectedReportData,
  requireImagePcrs,
  snpResult,
  type VerifyContext,
  verifyAkCertificate,
  verifyBareQuote,
  verifyNitroDocument,
  verifySnpReport,
  verifyTpmQuote,
} from '@dstack-cloud/attestation';
import {
  decodePemAll,
  EncodingError,
  encodePem,
  equalBytes,
  padRight,
  toHex,
  utf8,
} from '@dstack-cloud/encoding';
import type { Evidence, TpmQuoteJson } from '../evidence/evidence.ts';
import type { Findings } from './findings.ts';

type BareEvidence = Exclude<Evidence, { kind: 'attestation' }>;

const NOTHING = { appInfo: undefined, tcbEvaluationDataNumber: undefined, tcbDate: undefined } as const;

/**
 * Evidence that is no attestation of dstack's: verified on its own, without event log, image or identities.
 * @param chain certificates that travel apart (PEM blocks as DER)
 */
export async function verifyBareEvidence(
  evidence: BareEvidence,
  chain: readonly Uint8Array[],
  context: VerifyContext,
): Promise<Findings> {
  const findings = await verifyByKind(evidence, chain, context);
  requireReportData(findings.reportData, context);
  return findings;
}

async function verifyByKind(
  evidence: BareEvidence,
  chain: readonly Uint8Array[],
  context: VerifyContext,
): Promise<Findings> {
  switch (evidence.kind) {
    case 'quote':
      return verifyQuote(evidence.quote, context);
    case 'nitro-document': {
      const verified = await verifyNitroDocument(evidence.document, 'nsm', context, (found) => {
        requireImagePcrs(found, context);
        requireReportData(found.document.userData, context);
      });
      return platform(nitroResult(verified, context));
    }
    case 'nitro-tpm-document': {
      const { document, tpm } = evidence;
      const verified = await verifyNitroDocument(document, 'nitro-tpm', context, async (found) => {
        if (tpm) await verifyNitroTpmQuote(tpm, found.document, context);
        requireReportData(found.document.userData, context);
      });
      return platform(nitroTpmResult(verified));
    }
    case 'snp-report': {
      const bundle = chain.map((der) => encodePem('CERTIFICATE', der)).join('');
      const certificates = bundle === '' ? [] : [utf8(bundle)];
      const verified = await verifySnpReport(evidence.report, certificates, context, async (report) =>
        requireReportData(report.reportData, context),
      );
      return platform(snpResult(verified.report, '', verified));
    }
    case 'gcp-vtpm':
      return verifyGcpVtpm(evidence, context);
  }
}

async function verifyQuote(bytes: Uint8Array, context: VerifyContext): Promise<Findings> {
  const { quote, dcap } = await verifyBareQuote(bytes, context, ({ td, enclave }) =>
    requireReportData(td?.reportData ?? enclave?.reportData, context),
  );
  const { td, enclave } = quote;
  return {
    simulated: dcap.simulated,
    tcbStatus: dcap.status,
    advisoryIds: dcap.advisoryIds,
    registers: td
      ? { mrtd: td.mrTd, rtmr0: td.rtmrs[0], rtmr1: td.rtmrs[1], rtmr2: td.rtmrs[2], rtmr3: td.rtmrs[3] }
      : { mrenclave: enclave!.mrEnclave, mrsigner: enclave!.mrSigner },
    validFrom: dcap.validFrom,
    validUntil: dcap.validUntil,
    reportData: td?.reportData ?? enclave?.reportData,
    appInfo: undefined,
    tcbEvaluationDataNumber: dcap.tcbEvaluationDataNumber,
    tcbDate: dcap.tcbDate,
  };
}

/** The TPM's quote beside a NitroTPM document: the document vouches for the key, nonce and PCRs must agree. */
async function verifyNitroTpmQuote(
  tpm: TpmQuoteJson,
  document: {
    publicKey: Uint8Array | undefined;
    nonce: Uint8Array | undefined;
    pcrs: ReadonlyMap<number, Uint8Array>;
  },
  context: VerifyContext,
): Promise<void> {
  const point = document.publicKey ?? new Uint8Array(0);
  requireEqual('nitro-tpm.quote-key', point.subarray(point.length - 64), tpm.key, context);
  const attest = await verifyTpmQuote({ ...tpm, key: p256Spki(tpm.key) }, context);
  requireEqual('nitro-tpm.quote-nonce', document.nonce ?? new Uint8Array(0), attest.extraData, context);
  if (tpm.nonce) requireEqual('nitro-tpm.nonce', tpm.nonce, attest.extraData, context);
  for (const { index, value } of tpm.pcrs) {
    requireEqual(
      `nitro-tpm.quote-pcr${index}`,
      document.pcrs.get(index) ?? new Uint8Array(0),
      value,
      context,
    );
  }
}

/** A vTPM quote and its chain. Revocation lists are obeyed when at hand: there is no event log to bind either. */
async function verifyGcpVtpm(
  evidence: Extract<Evidence, { kind: 'gcp-vtpm' }>,
  context: VerifyContext,
): Promise<Findings> {
  const [akCert, ...issuers] = await context.checks.step('tpm.chain-form', 'RFC 7468', () =>
    certificates(evidence.certChainPem),
  );
  if (!akCert) throw new AttestationError('malformed', 'The vTPM quote has no certificate of its key');
  const { spki: key } = await context.checks.attempt('tpm.ak-form', 'RFC 5280', () =>
    parseCertificate(akCert),
  );
  requireEqual('tpm.key', key, p256Spki(evidence.tpm.key), context);
  const attest = await verifyTpmQuote({ ...evidence.tpm, key }, context);
  if (evidence.tpm.nonce) requireEqual('tpm.nonce', evidence.tpm.nonce, attest.extraData, context);
  requireReportData(attest.extraData, context);
  // Nothing is wrong with the quote: whose key signed it may have to be asked.
  const collateral = await vtpmCollateral(akCert, issuers, context);
  const { path } = await verifyAkCertificate(akCert, collateral, { revocation: 'soft' }, context);
  return {
    ...NOTHING,
    simulated: path.anchor.simulated,
    tcbStatus: '',
    advisoryIds: [],
    registers: Object.fromEntries(evidence.tpm.pcrs.map(({ index, value }) => [`pcr${index}`, value])),
    validFrom: path.validFrom,
    validUntil: path.validUntil,
    reportData: attest.extraData,
  };
}

async function vtpmCollateral(
  akCert: Uint8Array,
  issuers: readonly Uint8Array[],
  { collateral }: VerifyContext,
) {
  const own = issuers.map((der) => encodePem('CERTIFICATE', der)).join('');
  const found = await collateral.tpm?.({ akCert }).catch((error: unknown) => {
    if (error instanceof AttestationError && error.code === 'collateral-unavailable') return undefined;
    throw error;
  });
  return found ? { ...found, certChainPem: `${own}${found.certChainPem}` } : { certChainPem: own, crls: [] };
}

function certificates(pem: string): Uint8Array[] {
  try {
    return decodePemAll(pem, 'CERTIFICATE');
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw new AttestationError('malformed', `Certificate chain: ${cause.message}`, { cause });
  }
}

function platform(result: PlatformResult): Findings {
  return { ...NOTHING, ...result };
}

/** A verifier's challenge: shorter evidence counts as padded with zeros (docs/protocol/evidence.md section 2). */
function requireReportData(found: Uint8Array | undefined, context: VerifyContext): void {
  const length = context.options.expectedReportData?.length ?? 0;
  const padded = found && found.length < length ? padRight(found, length) : found;
  requireExpectedReportData(padded ?? new Uint8Array(0), context);
}

function requireEqual(id: string, expected: Uint8Array, found: Uint8Array, { checks }: VerifyContext): void {
  checks.require(equalBytes(expected, found), {
    id,
    reference: 'docs/attestation.md',
    code: 'mismatch',
    message: `Two values that must be equal differ: ${id}`,
    expected: toHex(expected),
    found: toHex(found),
  });
}
