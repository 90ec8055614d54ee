import { equalBytes, fromHex, toHex } from '@dstack-cloud/encoding';
import type { Attestation, GcpTdxAttestationQuote, TpmQuote } from '../attestation.ts';
import { attestedConfig } from '../codec/attested-config.ts';
import type { TpmCollateral } from '../collateral-source.ts';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';
import { replayRuntimeEvents } from '../events/runtime-events.ts';
import { requireExpectedReportData } from '../expected-report-data.ts';
import { requireGcpImage } from '../measurements/image/gcp-image.ts';
import { readImageConfig } from '../measurements/image/image-config.ts';
import { verifyTdx } from '../tdx/verify-tdx.ts';
import { parseTdxQuote } from '../tdx-quote/quote.ts';
import { requireReplay } from '../tpm/replay-pcrs.ts';
import { parseTpmtSignature } from '../tpm/tpmt-signature.ts';
import { type QuotedPcr, verifyTpmQuote } from '../tpm/verify-quote.ts';
import type { PlatformResult, VerifyContext } from '../verify-context.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { type VerifiedAk, verifyAkCertificate } from './ak-certificate.ts';
import { requireNothingElse, ukiFromPcr2 } from './boot-applications.ts';
import { verifyFirmwareEndorsement } from './firmware-endorsement.ts';
import { GCE_TDX_PCR0 } from './gce-firmware.ts';

const PLATFORM_GCP = 1;
const REQUIRED_PCRS = [0, 2, 14];
const SECTION = 'docs/protocol/verification.md section 4';

/**
 * dstack-gcp-tdx: the TDX leg, then the vTPM's quote, its key and its log, and what binds the two
 * (docs/protocol/verification.md section 4). The OS image itself is verified by `verifyOsImage`.
 */
export async function verifyGcpTdx(
  attestation: Attestation,
  context: VerifyContext,
): Promise<PlatformResult> {
  const quote = attestation.quote as GcpTdxAttestationQuote;
  let early: VtpmQuote | undefined;
  const tdx = await unlessUnavailable(() =>
    verifyTdx(attestation, context, async () => {
      early ??= await verifyVtpmQuote(quote, attestation, context);
      await checkImageWithoutCollateral(attestation, early.ukiDigest, context);
    }),
  );
  const vtpm = early ?? (await verifyVtpmQuote(quote, attestation, context));
  if (isMissing(tdx)) {
    await checkImageWithoutCollateral(attestation, vtpm.ukiDigest, context);
    throw tdx;
  }
  // A source that has Intel's collateral at hand may have to ask for the key's certificates all the same.
  if (early === undefined && context.collateral.atHand !== undefined) {
    requireExpectedReportData(tdx.reportData, context);
    await checkImageWithoutCollateral(attestation, vtpm.ukiDigest, context);
  }
  const ak = await unlessUnavailable(() => verifyVtpmKey(quote.tpmQuote, vtpm.mrTd, context));
  if (isMissing(ak)) {
    await checkImageWithoutCollateral(attestation, vtpm.ukiDigest, context);
    throw ak;
  }
  const { pcrs, ukiDigest } = vtpm;
  const { path } = ak;
  return {
    ...tdx,
    simulated: tdx.simulated || path.anchor.simulated,
    registers: {
      ...tdx.registers,
      ...Object.fromEntries(pcrs.map(({ index, value }) => [`pcr${index}`, value])),
    },
    validFrom: Math.max(tdx.validFrom, path.validFrom),
    validUntil: Math.min(tdx.validUntil, path.validUntil),
    evidence: {
      kind: 'gcp-tdx',
      tdx: tdx.evidence,
      pcrs: new Map(pcrs.map(({ index, value }) => [index, value])),
      ukiDigest,
    },
  };
}

/** What the vTPM's quote shows with the key that its certificate names; whose key that is follows. Nothing is fetched. */
async function verifyVtpmQuote(
  quote: GcpTdxAttestationQuote,
  attestation: Attestation,
  context: VerifyContext,
): Promise<VtpmQuote> {
  const { checks, crypto } = context;
  const { tpmQuote } = quote;
  const pcrs = requiredPcrs(tpmQuote, context);
  const mrTd = parseTdxQuote(quote.quote).td?.mrTd ?? new Uint8Array(0);
  const signature = await checks.step('tpm.signature-form', 'docs/protocol/evidence.md section 9', () =>
    parseTpmtSignature(tpmQuote.signature),
  );
  const { spki: key } = await checks.attempt('tpm.ak-form', `${SECTION} step 10`, () =>
    parseCertificate(tpmQuote.akCert),
  );
  const attest = await verifyTpmQuote(
    { message: tpmQuote.message, signature, bank: 'sha256', pcrs, key },
    context,
  );
  requireReplay(pcrs, tpmQuote.eventLog, context);
  requireEqual('tpm.qualifying-data', crypto.hash('sha256', quote.quote), attest.extraData, context);
  const pcr = (index: number) => pcrs.find((entry) => entry.index === index)!.value;
  requireEqual('tpm.pcr14', replayRuntimeEvents(attestation.runtimeEvents, 'sha256'), pcr(14), context);
  requireFirmware(pcr(0), mrTd, context);
  requireNothingElse(pcrs, tpmQuote.eventLog, context);
  const kernel = context.options.platform?.gcpKernelDigest;
  const kernelDigest = kernel === undefined ? undefined : decoding('gcpKernelDigest', () => fromHex(kernel));
  return { pcrs, mrTd, ukiDigest: ukiFromPcr2(tpmQuote.eventLog, kernelDigest, context) };
}

interface VtpmQuote {
  readonly pcrs: readonly QuotedPcr[];
  readonly mrTd: Uint8Array;
  readonly ukiDigest: Uint8Array;
}

/** Whose key it is, and Google's word for the firmware: asked for last, and for the firmware of Google's machines alone. */
async function verifyVtpmKey(
  tpmQuote: TpmQuote,
  mrTd: Uint8Array,
  context: VerifyContext,
): Promise<VerifiedAk> {
  const { collateral, options } = context;
  const answer = await fetchCollateral(tpmQuote, context, undefined);
  const verified = await verifyAkCertificate(tpmQuote.akCert, answer, { revocation: 'hard' }, context);
  await collateral.settled?.(answer, true);
  const wanted = options.platform?.gcpFirmwareEndorsement ?? true;
  if (wanted === false || (wanted === 'vendor' && verified.path.anchor.simulated)) return verified;
  const more = await fetchCollateral(tpmQuote, context, mrTd);
  await verifyFirmwareEndorsement(more.firmwareEndorsement, mrTd, context);
  await collateral.settled?.(more, true);
  return verified;
}

/** Missing collateral as a value: the other part is verified all the same, so that bad evidence is refused. */
async function unlessUnavailable<T>(run: () => Promise<T>): Promise<T | AttestationError> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof AttestationError && error.code === 'collateral-unavailable') return error;
    throw error;
  }
}

function isMissing<T>(value: T | AttestationError): value is AttestationError {
  return value instanceof AttestationError;
}

async function checkImageWithoutCollateral(
  attestation: Attestation,
  ukiDigest: Uint8Array,
  { checks, crypto }: VerifyContext,
): Promise<void> {
  const config = attestedConfig(attestation.config);
  // The configuration may come beside the attestation: whoever has it verifies the image.
  if (config.trim() === '') return;
  await checks.step('image.gcp-tdx', 'docs/protocol/images.md section 5.3', () =>
    requireGcpImage(ukiDigest, readImageConfig(config, undefined), crypto),
  );
}

function requiredPcrs(tpm: TpmQuote, { checks }: VerifyContext): QuotedPcr[] {
  checks.require(tpm.platform === PLATFORM_GCP, {
    id: 'tpm.platform',
    reference: SECTION,
    code: 'mismatch',
    message: 'The TPM quote is labelled with another platform than its mode',
    expected: String(PLATFORM_GCP),
    found: String(tpm.platform),
  });
  const other = tpm.pcrValues.find((value) => value.algorithm !== 'sha256');
  checks.require(other === undefined, {
    id: 'tpm.pcr-algorithm',
    reference: `${SECTION} step 1`,
    code: 'unsupported',
    message: 'PCR values must be of the SHA-256 bank',
    expected: 'sha256',
    found: other?.algorithm.slice(0, 32),
  });
  const missing = REQUIRED_PCRS.filter((index) => !tpm.pcrValues.some((value) => value.index === index));
  checks.require(missing.length === 0, {
    id: 'tpm.required-pcrs',
    reference: `${SECTION} step 1`,
    code: 'malformed',
    message: `PCR ${missing.join(', ')} missing from the TPM quote`,
    expected: REQUIRED_PCRS.join(','),
    found: tpm.pcrValues
      .slice(0, 24)
      .map((value) => value.index)
      .join(','),
  });
  return tpm.pcrValues.map(({ index, value }) => ({ index, value }));
}

/** @param mrTd the firmware whose endorsement is wanted */
async function fetchCollateral(
  tpm: TpmQuote,
  { collateral, options }: VerifyContext,
  mrTd: Uint8Array | undefined,
): Promise<TpmCollateral> {
  if (!collateral.tpm) {
    throw new AttestationError('collateral-unavailable', 'No certificates of the vTPM are available', {
      check: 'tpm.collateral',
    });
  }
  return collateral.tpm(
    { akCert: tpm.akCert, ...(mrTd === undefined ? {} : { mrtd: mrTd }) },
    options.permit,
  );
}

function requireEqual(
  id: 'tpm.qualifying-data' | 'tpm.pcr14',
  expected: Uint8Array,
  found: Uint8Array,
  { checks }: VerifyContext,
): void {
  checks.require(equalBytes(expected, found), {
    id,
    reference: `${SECTION} step ${id === 'tpm.pcr14' ? 6 : 5}`,
    code: 'mismatch',
    message:
      id === 'tpm.pcr14'
        ? 'PCR14 is not the replay of the runtime events'
        : 'The TPM quote was not made for this TDX quote: qualifying data differs',
    expected: toHex(expected),
    found: toHex(found),
  });
}

/**
 * PCR 0 and MRTD by the configured lists: firmware that was looked at (docs/protocol/verification.md section 4 steps 7
 * and 11).
 */
function requireFirmware(pcr0: Uint8Array, mrTd: Uint8Array, { checks, options }: VerifyContext): void {
  const known = (options.platform?.gcpPcr0 ?? [GCE_TDX_PCR0]).map((hex) => hex.toLowerCase());
  checks.require(known.includes(toHex(pcr0)), {
    id: 'image.pcr0',
    reference: 'docs/protocol/verification.md section 4 step 7',
    code: 'image',
    message: 'PCR 0 is not that of an accepted GCE firmware',
    expected: known.join(' or '),
    found: toHex(pcr0),
  });
  const mrTds = (options.platform?.gcpMrtd ?? []).map((hex) => hex.toLowerCase());
  if (mrTds.length === 0) return;
  checks.require(mrTds.includes(toHex(mrTd)), {
    id: 'image.gcp-mrtd',
    reference: 'docs/protocol/verification.md section 4 step 11',
    code: 'image',
    message: 'MRTD is not on the configured list',
    expected: mrTds.join(' or '),
    found: toHex(mrTd),
  });
}
