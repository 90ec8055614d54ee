import { utf8 } from '@dstack-cloud/encoding';
import type { CheckRecorder } from '../check-recorder.ts';
import type { TpmCollateral } from '../collateral-source.ts';
import { AttestationError } from '../errors.ts';
import { anchorParts } from '../roots/anchor-parts.ts';
import { cachedStage, type Dated } from '../stage.ts';
import type { VerifyContext } from '../verify-context.ts';
import { type Certificate, parseCertificate } from '../x509/certificate.ts';
import { type CertificateRevocationList, parseCrl } from '../x509/crl.ts';
import { derForms } from '../x509/der-form.ts';
import { coversCertificate } from '../x509/revocation.ts';
import { type ValidatedPath, validatePath } from '../x509/validate-path.ts';
import { GCE_INSTANCE, gceInstance } from './gce-instance.ts';

/**
 * tcg-kp-EKCertificate; Google's intermediates carry it for AK certificates too (docs/protocol/verification.md section
 * 4 step 10).
 */
const EKU_TPM = '2.23.133.8.1';
const MAX_CRLS = 8;
const MAX_CERTIFICATES = 8;
const SECTION = 'docs/protocol/verification.md section 4 step 10';

export interface AkRules {
  /** `hard`: every certificate that names a revocation list must be covered by one. */
  readonly revocation: 'hard' | 'soft';
}

/** The certificate of an attestation key, and its path to a root. */
export interface VerifiedAk extends Dated {
  readonly leaf: Certificate;
  readonly path: ValidatedPath;
}

/**
 * Verifies an attestation key's certificate: the chain to one of the GCP roots, revocation, and that it is a
 * signing key and no EK, which hangs off the same root with keyEncipherment (docs/protocol/verification.md section 4
 * step 10). Remembered by the hash of everything that goes in.
 * @throws AttestationError
 */
export function verifyAkCertificate(
  akCert: Uint8Array,
  collateral: TpmCollateral,
  rules: AkRules,
  context: VerifyContext,
): Promise<VerifiedAk> {
  const key = [
    akCert,
    utf8(collateral.certChainPem),
    ...collateral.crls,
    collateral.rootCaCrl ?? new Uint8Array(0),
    ...anchorParts(context.roots.gcpTpm),
  ];
  return cachedStage(`tpm-ak:${rules.revocation}`, key, context, (checks) =>
    verifyAk(akCert, collateral, rules, { ...context, checks }),
  );
}

async function verifyAk(
  akCert: Uint8Array,
  collateral: TpmCollateral,
  rules: AkRules,
  context: VerifyContext,
): Promise<VerifiedAk> {
  const { checks, crypto, cache, now, roots } = context;
  const leaf = await checks.step('tpm.ak-form', SECTION, () => parseCertificate(akCert));
  const intermediates = readChain(collateral.certChainPem);
  const crls = readCrls(collateral);
  const path = await checks.step('tpm.ak-chain', SECTION, () =>
    validatePath(
      leaf,
      intermediates,
      {
        anchors: roots.gcpTpm,
        now,
        revocation: 'available',
        crls,
        extendedKeyUsage: [EKU_TPM],
        knownExtensions: [GCE_INSTANCE],
      },
      crypto,
      cache,
    ),
  );
  checks.require(!leaf.isCa && leaf.keyUsage?.digitalSignature === true && !leaf.keyUsage.keyCertSign, {
    id: 'tpm.ak-usage',
    reference: 'docs/protocol/verification.md section 4 step 10',
    code: 'chain-invalid',
    message: 'The certificate is not that of an attestation key: keyUsage digitalSignature is missing',
    expected: 'digitalSignature, not a CA',
    found: () => usageText(leaf),
  });
  await requireMachine(path, checks);
  requireRevocation(path, crls, rules, context);
  return { leaf, path, validFrom: path.validFrom, validUntil: path.validUntil };
}

/**
 * Google names the machine in the certificates of its TPMs, and whether the TPM is one of production (go-tpm-tools
 * takes no other's word for where it runs). Test roots need not.
 */
async function requireMachine({ chain, anchor }: ValidatedPath, checks: CheckRecorder): Promise<void> {
  const reference = 'go-tpm-tools, GCE instance information';
  const instance = anchor.simulated
    ? undefined
    : await checks.attempt('tpm.ak-machine', reference, () => gceInstance(chain[0]!));
  checks.require(anchor.simulated || instance?.isProduction === true, {
    id: 'tpm.ak-machine',
    reference,
    code: 'chain-invalid',
    message: "The certificate is not that of a production machine's TPM",
    expected: 'GCE instance information of a machine in production',
    found: () => (instance ? `not production, ${instance.zone.slice(0, 64)}` : 'none'),
  });
}

/**
 * Certificates that name a revocation list must be covered by one (docs/protocol/verification.md section 4 step 10, RFC
 * 5280 section 6.3).
 */
function requireRevocation(
  path: ValidatedPath,
  crls: readonly CertificateRevocationList[],
  rules: AkRules,
  { checks }: VerifyContext,
): void {
  const uncovered = path.chain
    .slice(0, -1)
    .filter(
      (certificate) =>
        certificate.crlUrls.length > 0 && !crls.some((crl) => coversCertificate(crl, certificate)),
    );
  if (rules.revocation === 'soft') {
    checks.pass('tpm.ak-revocation', SECTION, uncovered.length > 0 ? 'no list at hand' : 'covered');
    return;
  }
  checks.require(uncovered.length === 0, {
    id: 'tpm.ak-revocation',
    reference: SECTION,
    code: 'revocation-unknown',
    message: 'No revocation list for a certificate of the attestation key that names one',
    expected: uncovered[0]?.crlUrls[0],
    found: 'none',
  });
}

function readChain(pem: string): Certificate[] {
  const blocks = pem.trim() === '' ? [] : derForms(pem, 'CERTIFICATE');
  if (blocks.length > MAX_CERTIFICATES) {
    throw new AttestationError('too-large', `TPM certificate chain of ${blocks.length} certificates`);
  }
  return blocks.map((block) => parseCertificate(block));
}

function readCrls(collateral: TpmCollateral): CertificateRevocationList[] {
  const ders = [...collateral.crls, ...(collateral.rootCaCrl ? [collateral.rootCaCrl] : [])];
  if (ders.length > MAX_CRLS) {
    throw new AttestationError('too-large', `TPM collateral with ${ders.length} revocation lists`);
  }
  return ders.map((der) => parseCrl(der));
}

function usageText(leaf: Certificate): string {
  const usage = leaf.keyUsage;
  if (!usage) return leaf.isCa ? 'CA without keyUsage' : 'no keyUsage';
  const names = (['digitalSignature', 'keyEncipherment', 'keyCertSign', 'crlSign'] as const).filter(
    (name) => usage[name],
  );
  return [...names, ...(leaf.isCa ? ['CA'] : [])].join(', ') || 'none';
}
