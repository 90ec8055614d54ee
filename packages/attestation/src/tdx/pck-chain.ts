import { encodePem, toHex, utf8Text } from '@dstack-cloud/encoding';
import type { DcapCollateral, DcapCollateralRequest } from '../collateral-source.ts';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';
import type { TdxQuote } from '../tdx-quote/quote.ts';
import type { VerifyContext } from '../verify-context.ts';
import { nameAttribute, parseCertificateChain } from '../x509/certificate.ts';
import { validatePath } from '../x509/validate-path.ts';
import { requirePckPath } from './intel-signers.ts';
import { readPckPlatform } from './pck-extension.ts';

const COMMON_NAME = '2.5.4.3';

/** Whether the quote says itself whose key signed its QE report. */
export function carriesPckChain({ certification: { type } }: TdxQuote): boolean {
  return type === 4 || type === 5;
}

/** Chains that were asked for, so that one verification asks once. */
const asked = new WeakMap<TdxQuote, Promise<string>>();

/**
 * PEM chain of the PCK certificate, unverified: the collateral's, else the quote's own, else asked from the
 * collateral source (certification data types 1 to 3).
 * @throws AttestationError `collateral-unavailable`, `unsupported`
 */
export async function pckChainOf(
  quote: TdxQuote,
  collateral: Pick<DcapCollateral, 'pckCertificateChain'> | undefined,
  context: Pick<VerifyContext, 'collateral' | 'options'>,
): Promise<string> {
  if (collateral?.pckCertificateChain) return collateral.pckCertificateChain;
  const { certification } = quote;
  switch (certification.type) {
    case 5:
      return certification.pem;
    case 4:
      return leafPem(certification.leaf);
    case 7:
      throw new AttestationError('unsupported', 'A platform manifest names no PCK certificate', {
        found: 'type 7',
      });
    default: {
      const source = context.collateral.pckCertificate;
      if (!source) {
        throw new AttestationError(
          'collateral-unavailable',
          'The quote carries no PCK certificate, and the collateral source has none',
        );
      }
      const { ppid, cpuSvn, pceSvn, pceId } = certification;
      const request = { qeId: quote.qeId, encryptedPpid: ppid, cpuSvn, pceSvn, pceId };
      const chain = asked.get(quote) ?? source.call(context.collateral, request, context.options.permit);
      asked.set(quote, chain);
      return chain;
    }
  }
}

/** Which collateral a quote needs: from its PCK certificate. */
export async function collateralRequest(
  quote: TdxQuote,
  context: VerifyContext,
): Promise<DcapCollateralRequest> {
  const [leaf, ...intermediates] = parseCertificateChain(await pckChainOf(quote, undefined, context));
  if (!leaf) throw new AttestationError('malformed', 'The PCK certificate chain is empty');
  // Before anything is fetched: only chains of a configured root may choose what to ask for. Revocation
  // follows with the collateral.
  const path = await validatePath(
    leaf,
    intermediates,
    { anchors: context.roots.tdx, now: context.now, revocation: 'none' },
    context.crypto,
    context.cache,
  );
  requirePckPath(path);
  const issuer = nameAttribute(leaf.issuer, COMMON_NAME) ?? '';
  return {
    tee: quote.tee,
    fmspc: toHex(readPckPlatform(leaf).fmspc),
    // "Intel SGX PCK Processor CA" or "… Platform CA" (docs/protocol/verification.md section 2.1).
    ca: issuer.includes('Processor') ? 'processor' : 'platform',
  };
}

/** Type 4 is PEM in Intel's samples, DER by the letter of the format. */
function leafPem(leaf: Uint8Array): string {
  if (leaf[0] === 0x30) return encodePem('CERTIFICATE', leaf);
  return decoding('PCK certificate', () => utf8Text(leaf));
}
