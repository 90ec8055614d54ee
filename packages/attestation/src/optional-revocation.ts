import { toHex } from '@dstack-cloud/encoding';
import { AttestationError } from './errors.ts';
import type { VerifyContext } from './verify-context.ts';
import type { Certificate } from './x509/certificate.ts';
import { type CertificateRevocationList, parseCrl } from './x509/crl.ts';
import { checkRevocation, coversCertificate } from './x509/revocation.ts';
import type { ValidatedPath } from './x509/validate-path.ts';

export interface OptionalRevocation {
  /** Name of the check. */
  readonly id: string;
  readonly reference: string;
  /** `soft`: an unavailable list is noted, an available one is obeyed; `hard`: it must be available. */
  readonly mode: 'off' | 'soft' | 'hard';
}

/**
 * Revocation of a chain whose lists are often not available: Amazon's answer 403 to most, AMD's are one
 * more request. The chain is verified by now, so the URLs are the vendor's own.
 */
export async function requireOptionalRevocation(
  path: ValidatedPath,
  { id, reference, mode }: OptionalRevocation,
  context: VerifyContext,
): Promise<void> {
  const { collateral, checks, crypto, cache, now } = context;
  const fetchCrl = collateral.crl?.bind(collateral);
  const wanted = path.chain.slice(0, -1).filter((certificate) => certificate.crlUrls.length > 0);
  if (mode === 'off' || wanted.length === 0 || (mode === 'soft' && !fetchCrl)) {
    checks.pass(id, reference, mode === 'off' ? 'off' : 'no list at hand');
    return;
  }
  const crls: CertificateRevocationList[] = [];
  const answers = new Map<CertificateRevocationList, Uint8Array>();
  for (const certificate of wanted) {
    const url = certificate.crlUrls[0]!;
    try {
      if (!fetchCrl) throw new AttestationError('collateral-unavailable', `No source for ${url}`);
      const answer = await fetchCrl(url);
      const list = parseCrl(answer);
      answers.set(list, answer);
      crls.push(list);
    } catch (error) {
      if (!(error instanceof AttestationError)) throw error;
      if (mode === 'soft' && error.code === 'collateral-unavailable') continue;
      throw error;
    }
  }
  const onList = async (list: CertificateRevocationList, isGood: boolean): Promise<void> =>
    collateral.settled?.(answers.get(list)!, isGood);
  await checks.step(id, reference, () => {
    if (mode === 'hard') requireCovered(wanted, crls);
    return checkRevocation(path.chain, { now, revocation: 'available', crls, onList }, crypto, cache);
  });
}

/** What was served may be a list of anybody's: a certificate is covered by one of its own issuer. */
function requireCovered(
  certificates: readonly Certificate[],
  crls: readonly CertificateRevocationList[],
): void {
  const uncovered = certificates.find((one) => !crls.some((list) => coversCertificate(list, one)));
  if (!uncovered) return;
  throw new AttestationError(
    'revocation-unknown',
    'The list that was served is not one for the certificate',
    {
      expected: `a list of the issuer of serial ${toHex(uncovered.serial)}`,
      found: 'lists of others',
    },
  );
}
