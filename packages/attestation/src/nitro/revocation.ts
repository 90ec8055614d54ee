import { AttestationError } from '../errors.ts';
import type { VerifyContext } from '../verify-context.ts';
import { type CertificateRevocationList, parseCrl } from '../x509/crl.ts';
import { checkRevocation } from '../x509/revocation.ts';
import type { ValidatedPath } from '../x509/validate-path.ts';

const REFERENCE = 'chapter 20 section 5.3 step 6';

/**
 * Revocation of an AWS chain. Amazon's lists answer 403 to most, so the default is `soft`: a list that cannot
 * be had is noted, one that can is obeyed (chapter 20 section 5.3 step 6). The chain is verified by now, so
 * the URLs are the vendor's own.
 */
export async function requireNitroRevocation(path: ValidatedPath, context: VerifyContext): Promise<void> {
  const mode = context.options.platform?.nitroCrl ?? 'soft';
  const fetchCrl = context.collateral.crl?.bind(context.collateral);
  const wanted = path.chain.slice(0, -1).filter((certificate) => certificate.crlUrls.length > 0);
  if (mode === 'off' || wanted.length === 0 || (mode === 'soft' && !fetchCrl)) {
    context.checks.pass('nitro.revocation', REFERENCE, mode === 'off' ? 'off' : 'no list at hand');
    return;
  }
  const crls: CertificateRevocationList[] = [];
  for (const certificate of wanted) {
    const url = certificate.crlUrls[0]!;
    try {
      if (!fetchCrl) throw new AttestationError('collateral-unavailable', `No source for ${url}`);
      crls.push(parseCrl(await fetchCrl(url)));
    } catch (error) {
      if (!(error instanceof AttestationError)) throw error;
      if (mode === 'soft' && error.code === 'collateral-unavailable') continue;
      throw error;
    }
  }
  await context.checks.step('nitro.revocation', REFERENCE, () =>
    checkRevocation(
      path.chain,
      { now: context.now, revocation: 'available', crls },
      context.crypto,
      context.cache,
    ),
  );
}
