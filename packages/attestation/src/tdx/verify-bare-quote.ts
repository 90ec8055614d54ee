import { AttestationError } from '../errors.ts';
import type { DcapResult } from '../tdx-evidence.ts';
import { parseTdxQuote, type TdxQuote } from '../tdx-quote/quote.ts';
import type { VerifyContext } from '../verify-context.ts';
import { checkQuoteWithoutCollateral, checkQuoteWithoutPck } from './check-without-collateral.ts';
import { carriesPckChain, collateralRequest } from './pck-chain.ts';
import { verifyDcap } from './verify-dcap.ts';

/** A quote and what DCAP says of it. */
export interface VerifiedQuote {
  readonly quote: TdxQuote;
  readonly dcap: DcapResult;
}

/**
 * A TDX or SGX quote on its own: fetches its collateral and verifies it (docs/protocol/verification.md section 2.2). What
 * dstack binds to quotes is not asked.
 * @param alone what else of the quote needs nobody to be asked; verified before Intel is
 * @throws AttestationError; `collateral-unavailable` only when nothing is wrong with what the quote shows alone
 */
export async function verifyBareQuote(
  bytes: Uint8Array,
  context: VerifyContext,
  alone: (quote: TdxQuote) => void = () => undefined,
): Promise<VerifiedQuote> {
  const { checks } = context;
  const quote = await checks.step('tdx.quote-form', 'docs/protocol/verification.md section 2.2 step 1', () =>
    parseTdxQuote(bytes),
  );
  if (!carriesPckChain(quote)) {
    await checkQuoteWithoutPck(quote, context);
    alone(quote);
  }
  const request = await checks.step('tdx.pck-path', 'docs/protocol/verification.md section 2.2 step 5', () =>
    collateralRequest(quote, context),
  );
  const { collateral: source, options } = context;
  const atHand = source.atHand?.(request) ?? true;
  if (!atHand) {
    await checkQuoteWithoutCollateral(quote, context);
    alone(quote);
  }
  const outcome = await source.tdx(request, options.permit).catch((error: unknown) => {
    if (error instanceof AttestationError) return error;
    throw error;
  });
  if (atHand && outcome instanceof AttestationError && outcome.code === 'collateral-unavailable') {
    await checkQuoteWithoutCollateral(quote, context);
    alone(quote);
  }
  const collateral = await checks.step('tdx.collateral', 'docs/protocol/verification.md section 2.1', () => {
    if (outcome instanceof AttestationError) throw outcome;
    return outcome;
  });
  return { quote, dcap: await verifyDcap(quote, collateral, context) };
}
