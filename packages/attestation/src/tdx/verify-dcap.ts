import { equalBytes, toHex } from '@dstack-cloud/encoding';
import type { DcapCollateral } from '../collateral-source.ts';
import { p256Spki } from '../crypto/key-kind.ts';
import { AttestationError } from '../errors.ts';
import { mergeAdvisories, worstStatus } from '../tcb-status.ts';
import type { DcapResult } from '../tdx-evidence.ts';
import type { TdxQuote } from '../tdx-quote/quote.ts';
import type { VerifyContext } from '../verify-context.ts';
import { pckChainOf } from './pck-chain.ts';
import type { LevelStatus, TcbInfo } from './tcb-info.ts';
import { moduleLevel, platformLevel } from './tcb-level.ts';
import { checkEnclaveAttributes, checkTdAttributes } from './td-attributes.ts';
import { verifyCollateral } from './verify-collateral.ts';
import { type VerifiedPck, verifyPck } from './verify-pck.ts';
import { verifyQe } from './verify-qe.ts';

/**
 * All steps of docs/protocol/verification.md section 2.2 for TDX and SGX quotes. The TCB status is reported, not
 * appraised, except that `Revoked` is refused.
 * @throws AttestationError
 */
export async function verifyDcap(
  quote: TdxQuote,
  collateral: DcapCollateral,
  context: VerifyContext,
): Promise<DcapResult> {
  const { checks } = context;
  // No quote can make these checks fail: what they find, they find of the collateral.
  const verified = await verifyCollateral(collateral, quote.tee, context).catch(async (error: unknown) => {
    if (error instanceof AttestationError) await context.collateral.settled?.(collateral, false);
    throw error;
  });
  await context.collateral.settled?.(collateral, true);
  const { tcbInfo, qeIdentity } = verified;
  const chain = await pckChainOf(quote, collateral, context);
  const pck = await verifyPck(chain, verified, context);
  const qe = await verifyQe(quote, pck, qeIdentity, context);
  await verifyQuoteSignature(quote, context);
  checkPlatform(quote, pck, tcbInfo, context);

  const platform = await checks.step(
    'tdx.tcb-level',
    'docs/protocol/verification.md section 2.2 step 11',
    () => platformLevel(tcbInfo, pck.platform, quote.td?.teeTcbSvn),
  );
  const module = await checks.step('tdx.module', 'docs/protocol/verification.md section 2.2 step 12', () =>
    quote.td ? moduleLevel(tcbInfo, quote.td) : undefined,
  );
  const levels: LevelStatus[] = [platform, ...(module ? [module] : []), qe];
  const status = worstStatus('UpToDate', ...levels.map((level) => level.status));
  checks.require(status !== 'Revoked', {
    id: 'tdx.tcb-status',
    reference: 'docs/protocol/verification.md section 2.2 step 13',
    code: 'tcb',
    message: 'The TCB level has been revoked',
    expected: 'any but Revoked',
    found: status,
  });
  if (quote.td) {
    checkTdAttributes(quote.td, context.options.platform?.dangerouslyAllowServiceTd ?? false, checks);
  }
  if (quote.enclave) checkEnclaveAttributes(quote.enclave, checks);

  return {
    tee: quote.tee,
    simulated: pck.simulated,
    td: quote.td,
    enclave: quote.enclave,
    status,
    advisoryIds: mergeAdvisories(...levels.map((level) => level.advisoryIds)),
    platformStatus: platform.status,
    moduleStatus: module?.status,
    qeStatus: qe.status,
    ppid: pck.platform.ppid,
    fmspc: pck.platform.fmspc,
    tcbEvaluationDataNumber: Math.min(tcbInfo.tcbEvaluationDataNumber, qeIdentity.tcbEvaluationDataNumber),
    tcbDate: tcbDateOf(levels, platform),
    validFrom: Math.max(verified.validFrom, pck.validFrom),
    validUntil: Math.min(verified.validUntil, pck.validUntil),
    trustRoot: pck.trustRoot,
  };
}

/** What a grace period counts from: the oldest of the levels that are out of date, else the platform's. */
function tcbDateOf(levels: readonly LevelStatus[], platform: LevelStatus): number {
  const late = levels.filter(({ status }) => status.startsWith('OutOfDate'));
  return late.length === 0 ? platform.tcbDate : Math.min(...late.map((level) => level.tcbDate));
}

/** Step 9. */
async function verifyQuoteSignature(quote: TdxQuote, context: VerifyContext): Promise<void> {
  const { checks, crypto, cache } = context;
  const key = await checks.step(
    'tdx.attestation-key',
    'docs/protocol/verification.md section 2.2 step 9',
    () => cache.key(crypto, p256Spki(quote.attestationKey)),
  );
  checks.require(await crypto.verify(key, 'ecdsa-sha256', quote.signature, quote.signed), {
    id: 'tdx.quote-signature',
    reference: 'docs/protocol/verification.md section 2.2 step 9',
    code: 'signature-invalid',
    message: 'The quote is not signed by its attestation key',
  });
}

/** Step 10: the TCB info is that of this platform and TEE. */
function checkPlatform(quote: TdxQuote, pck: VerifiedPck, tcbInfo: TcbInfo, context: VerifyContext): void {
  const { platform } = pck;
  const reference = 'docs/protocol/verification.md section 2.2 step 10';
  context.checks.require(
    equalBytes(platform.fmspc, tcbInfo.fmspc) && equalBytes(platform.pceId, tcbInfo.pceId),
    {
      id: 'tdx.tcb-info-platform',
      reference,
      code: 'collateral-invalid',
      message: 'The TCB info is of another kind of platform',
      expected: () => `FMSPC ${toHex(platform.fmspc)}, PCEID ${toHex(platform.pceId)}`,
      found: () => `FMSPC ${toHex(tcbInfo.fmspc)}, PCEID ${toHex(tcbInfo.pceId)}`,
    },
  );
  context.checks.require(tcbInfo.id === quote.tee.toUpperCase(), {
    id: 'tdx.tcb-info-tee',
    reference,
    code: 'collateral-invalid',
    message: 'The TCB info is of another TEE',
    expected: quote.tee.toUpperCase(),
    found: tcbInfo.id,
  });
}
