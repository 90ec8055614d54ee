import { toHex, utf8 } from '@dstack-cloud/encoding';
import type { CheckRecorder } from '../check-recorder.ts';
import { AttestationError } from '../errors.ts';
import type { TrustRoot } from '../roots/trust-roots.ts';
import type { VerifyContext } from '../verify-context.ts';
import { anchorCertificate } from '../x509/anchor-certificate.ts';
import { parseCertificateChain } from '../x509/certificate.ts';
import { date } from '../x509/certificate-rules.ts';
import type { CertificateRevocationList } from '../x509/crl.ts';
import { type ValidatedPath, validatePath } from '../x509/validate-path.ts';
import { requireTcbSigner } from './intel-signers.ts';

/** id-kp-serverAuth: demanded of Intel's leaves when they carry an extended key usage (RFC 5280 section 4.2.1.12). */
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';

/** A PEM chain, leaf first, to this root; every certificate against the lists. */
export function validateIntelChain(
  pem: string,
  root: TrustRoot,
  crls: readonly CertificateRevocationList[],
  context: VerifyContext,
): Promise<ValidatedPath> {
  const [leaf, ...intermediates] = parseCertificateChain(pem, [anchorCertificate(root)]);
  return validatePath(
    leaf!,
    intermediates,
    {
      anchors: [root],
      now: context.now,
      revocation: 'required',
      crls,
      extendedKeyUsage: [SERVER_AUTH],
      requireDigitalSignature: 'if-stated',
    },
    context.crypto,
    context.cache,
  );
}

interface SignedJson {
  readonly name: 'tcb-info' | 'qe-identity';
  /** Exact text that was signed. */
  readonly text: string;
  /** r‖s */
  readonly signature: Uint8Array;
  /** Validates the issuer chain. */
  readonly path: () => Promise<ValidatedPath>;
}

/**
 * Checks dates, chain, signer and signature of TCB info or QE identity (docs/protocol/verification.md section 2.2 steps
 * 3 and 4).
 */
export async function verifySignedJson<T extends { readonly issueDate: number; readonly nextUpdate: number }>(
  signed: SignedJson,
  parse: (text: string) => T,
  checks: CheckRecorder,
  context: VerifyContext,
): Promise<{ value: T; path: ValidatedPath }> {
  const { name } = signed;
  const reference = `docs/protocol/verification.md section 2.2 step ${name === 'tcb-info' ? 3 : 4}`;
  const value = await checks.step(`tdx.${name}-form`, reference, () => parse(signed.text));
  const isEarly = context.now < value.issueDate;
  checks.require(!isEarly && context.now <= value.nextUpdate, {
    id: `tdx.${name}-dates`,
    reference,
    code: isEarly ? 'not-yet-valid' : 'expired',
    message: isEarly ? `The ${name} is from the future` : `The ${name} has expired; fetch fresh collateral`,
    expected: () => `${date(value.issueDate)} to ${date(value.nextUpdate)}`,
    found: () => date(context.now),
  });
  const path = await checks.step(`tdx.${name}-chain`, reference, () => signed.path());
  requireTcbSigner(name, path, checks);
  await checks.step(`tdx.${name}-signature`, reference, async () => {
    const key = await context.cache.key(context.crypto, path.chain[0]!.spki);
    // Intel signs with P-256 only (PCS API v4).
    if (
      key.kind !== 'p256' ||
      !(await context.crypto.verify(key, 'ecdsa-sha256', signed.signature, utf8(signed.text)))
    ) {
      throw new AttestationError('signature-invalid', `The signature of the ${name} is wrong`, {
        found: toHex(signed.signature),
      });
    }
  });
  return { value, path };
}
