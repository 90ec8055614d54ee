import { equalBytes, isZero, toHex } from '@dstack-cloud/encoding';
import type { Attestation } from '../attestation.ts';
import { attestedConfig } from '../codec/attested-config.ts';
import { p256Spki } from '../crypto/key-kind.ts';
import { readImageConfig } from '../measurements/image/image-config.ts';
import { isLite, requireTdxImage } from '../measurements/image/tdx-image.ts';
import type { TdxQuote } from '../tdx-quote/quote.ts';
import type { VerifyContext } from '../verify-context.ts';
import { parseCertificateChain } from '../x509/certificate.ts';
import { pckChainOf } from './pck-chain.ts';
import { checkEnclaveAttributes, checkTdAttributes } from './td-attributes.ts';

/**
 * What a quote alone can show, for when no collateral is to be had: the signatures from the PCK certificate
 * down, and the attributes. It can refuse but never accept; the caller reports the missing collateral after
 * it, so that "cannot judge" means that nothing was found wrong.
 * @throws AttestationError
 */
export async function checkQuoteWithoutCollateral(quote: TdxQuote, context: VerifyContext): Promise<void> {
  const { checks, crypto, cache } = context;
  const [leaf] = parseCertificateChain(await pckChainOf(quote, undefined, context));
  if (leaf) {
    const key = await cache.key(crypto, leaf.spki);
    checks.require(await crypto.verify(key, 'ecdsa-sha256', quote.qeReportSignature, quote.qeReportBytes), {
      id: 'tdx.qe-report-signature',
      reference: 'docs/protocol/verification.md section 2.2 step 6',
      code: 'signature-invalid',
      message: 'The QE report is not signed by the PCK key',
    });
  }
  await checkQuoteWithoutPck(quote, context);
}

/** The same below the PCK certificate: what binds the attestation key, what it signed, and the attributes. */
export async function checkQuoteWithoutPck(quote: TdxQuote, context: VerifyContext): Promise<void> {
  const { checks, crypto, cache } = context;
  const binding = crypto.hash('sha256', quote.attestationKey, quote.qeAuthData);
  const bound = quote.qeReport.reportData;
  checks.require(equalBytes(binding, bound.subarray(0, 32)) && isZero(bound.subarray(32)), {
    id: 'tdx.qe-report-binding',
    reference: 'docs/protocol/verification.md section 2.2 step 7',
    code: 'mismatch',
    message: 'The QE report does not bind the attestation key',
    expected: () => `${toHex(binding)} and 32 zero bytes`,
    found: () => toHex(bound),
  });
  const key = await cache.key(crypto, p256Spki(quote.attestationKey));
  checks.require(await crypto.verify(key, 'ecdsa-sha256', quote.signature, quote.signed), {
    id: 'tdx.quote-signature',
    reference: 'docs/protocol/verification.md section 2.2 step 9',
    code: 'signature-invalid',
    message: 'The quote is not signed by its attestation key',
  });
  if (quote.td) {
    checkTdAttributes(quote.td, context.options.platform?.dangerouslyAllowServiceTd ?? false, checks);
  }
  if (quote.enclave) checkEnclaveAttributes(quote.enclave, checks);
}

/** The same for the image of bare TDX, as far as the configuration has a measurement document. */
export async function checkImageWithoutCollateral(
  attestation: Attestation,
  quote: TdxQuote,
  { checks, crypto }: VerifyContext,
): Promise<void> {
  const config = attestedConfig(attestation.config);
  if (attestation.quote.mode !== 'dstack-tdx' || !quote.td || config.trim() === '') return;
  const { eventLog } = attestation.quote;
  const { td } = quote;
  await checks.step('image.tdx', 'docs/protocol/images.md section 5.1', () => {
    const image = readImageConfig(config, undefined);
    if (isLite(image)) requireTdxImage(td, eventLog, image, crypto);
  });
}
