import { equalBytes, isZero, toHex } from '@dstack-cloud/encoding';
import type { Attestation, TdxEvent } from '../attestation.ts';
import type { DcapCollateral, DcapCollateralRequest } from '../collateral-source.ts';
import { AttestationError } from '../errors.ts';
import { checkEventLogs } from '../events/check-event-logs.ts';
import { replayRuntimeEvents } from '../events/runtime-events.ts';
import { requireExpectedReportData } from '../expected-report-data.ts';
import type { TdxEvidence } from '../tdx-evidence.ts';
import { parseTdxQuote } from '../tdx-quote/quote.ts';
import type { TdReport } from '../tdx-quote/reports.ts';
import type { PlatformResult, VerifyContext } from '../verify-context.ts';
import {
  checkImageWithoutCollateral,
  checkQuoteWithoutCollateral,
  checkQuoteWithoutPck,
} from './check-without-collateral.ts';
import { carriesPckChain, collateralRequest } from './pck-chain.ts';
import { verifyDcap } from './verify-dcap.ts';

/**
 * DCAP, then what dstack checks in addition (docs/protocol/verification.md section 3). Serves dstack-tdx and the TDX
 * leg of GCP.
 * @param beside what else of the evidence needs nobody to be asked; verified before Intel is
 * @throws AttestationError
 */
export async function verifyTdx(
  attestation: Attestation,
  context: VerifyContext,
  beside: () => Promise<void> = async () => undefined,
): Promise<PlatformResult & { readonly evidence: TdxEvidence }> {
  const { checks } = context;
  const { quote: bytes, eventLog } = tdxPart(attestation);
  const quote = await checks.step(
    'tdx.quote-form',
    'docs/protocol/verification.md section 2.2 step 1',
    () => {
      const parsed = parseTdxQuote(bytes);
      if (!parsed.td)
        throw new AttestationError('unsupported', 'The quote is not of a TD', { found: parsed.tee });
      return { ...parsed, td: parsed.td };
    },
  );
  const alone = async (): Promise<void> => {
    checkBinding(attestation, eventLog, quote.td, context);
    requireExpectedReportData(quote.td.reportData, context);
    await beside();
    await checkImageWithoutCollateral(attestation, quote, context);
  };
  // A quote that does not carry its PCK certificate is verified as far as possible before that is asked for.
  if (!carriesPckChain(quote)) {
    await checkQuoteWithoutPck(quote, context);
    await alone();
  }
  const request = await checks.step('tdx.pck-path', 'docs/protocol/verification.md section 2.2 step 5', () =>
    collateralRequest(quote, context),
  );
  const collateral = await fetchCollateral(request, context, async () => {
    await checkQuoteWithoutCollateral(quote, context);
    await alone();
  });
  const dcap = await verifyDcap(quote, collateral, context);
  checkBinding(attestation, eventLog, quote.td, context);
  return {
    simulated: dcap.simulated,
    reportData: quote.td.reportData,
    tcbStatus: dcap.status,
    advisoryIds: dcap.advisoryIds,
    rawDeviceId: dcap.ppid,
    registers: registersOf(quote.td),
    validFrom: dcap.validFrom,
    validUntil: dcap.validUntil,
    evidence: { kind: 'tdx', quoteVersion: quote.version === 5 ? 5 : 4, td: quote.td, dcap },
  };
}

/**
 * The collateral. Where it must be fetched, `alone` verifies what the evidence shows by itself first: forged evidence
 * causes no request to others, and "cannot judge" is never given to
 * evidence that is bad anyway.
 */
async function fetchCollateral(
  request: DcapCollateralRequest,
  context: VerifyContext,
  alone: () => Promise<void>,
): Promise<DcapCollateral> {
  const { checks, collateral, options } = context;
  const atHand = collateral.atHand?.(request) ?? true;
  if (!atHand) await alone();
  const outcome = await collateral.tdx(request, options.permit).catch((error: unknown) => {
    if (error instanceof AttestationError) return error;
    throw error;
  });
  if (atHand && outcome instanceof AttestationError && outcome.code === 'collateral-unavailable')
    await alone();
  return checks.step('tdx.collateral', 'docs/protocol/verification.md section 2.1', () => {
    if (outcome instanceof AttestationError) throw outcome;
    return outcome;
  });
}

function tdxPart(attestation: Attestation): { quote: Uint8Array; eventLog: readonly TdxEvent[] } {
  const { quote } = attestation;
  if (quote.mode === 'dstack-tdx' || quote.mode === 'dstack-gcp-tdx') return quote;
  throw new AttestationError('unsupported', `Evidence of mode ${quote.mode} holds no TDX quote`);
}

/** docs/protocol/verification.md section 3, in its order. */
function checkBinding(
  attestation: Attestation,
  eventLog: readonly TdxEvent[],
  td: TdReport,
  context: VerifyContext,
): void {
  const { checks } = context;
  const reference = 'docs/protocol/verification.md section 3';
  checks.require(isZero(td.mrSignerSeam), {
    id: 'tdx.mrsignerseam',
    reference,
    code: 'attributes',
    message: 'The TDX module is not signed by Intel',
    expected: 'MRSIGNERSEAM 0',
    found: () => toHex(td.mrSignerSeam),
  });
  const replayed = replayRuntimeEvents(attestation.runtimeEvents, 'sha384');
  checks.require(equalBytes(replayed, td.rtmrs[3]), {
    id: 'tdx.rtmr3',
    reference,
    code: 'mismatch',
    message: 'RTMR3 is not the replay of the runtime events',
    expected: () => toHex(td.rtmrs[3]),
    found: () => toHex(replayed),
  });
  checks.require(equalBytes(attestation.reportData, td.reportData), {
    id: 'tdx.report-data',
    reference,
    code: 'mismatch',
    message: 'The quoted report data is not that of the attestation',
    expected: () => toHex(attestation.reportData),
    found: () => toHex(td.reportData),
  });
  const replaysBoot = context.options.platform?.tdxBootEventReplay ?? true;
  const events = replaysBoot ? eventLog : eventLog.filter(({ imr }) => imr > 2);
  checkEventLogs(events, attestation.runtimeEvents, td.rtmrs, checks);
}

function registersOf(td: TdReport): Record<string, Uint8Array> {
  const [rtmr0, rtmr1, rtmr2, rtmr3] = td.rtmrs;
  return {
    mrtd: td.mrTd,
    rtmr0,
    rtmr1,
    rtmr2,
    rtmr3,
    mrconfigid: td.mrConfigId,
    mrowner: td.mrOwner,
    mrownerconfig: td.mrOwnerConfig,
    mrseam: td.mrSeam,
    mrsignerseam: td.mrSignerSeam,
    ...(td.mrServiceTd ? { mrservicetd: td.mrServiceTd } : {}),
  };
}
