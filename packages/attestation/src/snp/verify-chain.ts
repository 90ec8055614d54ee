import { derInteger, equalBytes, readDer, toHex } from '@dstack-cloud/encoding';
import { decoding } from '../decoding.ts';
import type { SnpProduct } from '../platform-evidence.ts';
import type { TrustRoot } from '../roots/trust-roots.ts';
import type { VerifyContext } from '../verify-context.ts';
import { type Certificate, extensionValue } from '../x509/certificate.ts';
import type { CertificateRevocationList } from '../x509/crl.ts';
import { type ValidatedPath, validatePath } from '../x509/validate-path.ts';
import type { SnpCertificates } from './certificate-chain.ts';
import { requireVcekPath } from './key-roles.ts';
import { type SnpReport, splitTcb } from './report.ts';

/** AMD 57230 "VCEK Certificate and KDS Interface Specification", table of X.509 extensions. */
const AMD = '1.3.6.1.4.1.3704.1';
const EXTENSION = {
  bootLoader: `${AMD}.3.1`,
  tee: `${AMD}.3.2`,
  snp: `${AMD}.3.3`,
  microcode: `${AMD}.3.8`,
  fmc: `${AMD}.3.9`,
  chipId: `${AMD}.4`,
} as const;
const SECTION = 'docs/protocol/verification.md section 7';

/**
 * VCEK <- ASK <- ARK: dates, CA flags, signatures, revocation as far as lists are at hand, and that the VCEK
 * is of this chip at this TCB. The original dates nothing, asks no list and does not look at the extensions.
 * @throws AttestationError
 */
export async function verifySnpChain(
  certificates: SnpCertificates,
  anchors: readonly TrustRoot[],
  crls: readonly CertificateRevocationList[],
  product: SnpProduct,
  context: VerifyContext,
): Promise<ValidatedPath> {
  const { checks, crypto, cache, now } = context;
  const path = await checks.step('snp.chain', SECTION, () =>
    validatePath(
      certificates.vcek,
      certificates.issuers,
      {
        anchors,
        now,
        revocation: 'available',
        crls,
        knownExtensions: Object.values(EXTENSION),
        requireDigitalSignature: 'if-stated',
      },
      crypto,
      cache,
    ),
  );
  const schemes = path.chain.map(({ scheme }) => scheme ?? 'unknown');
  const allowed = path.anchor.simulated ? ['rsa-pss-sha384', 'ecdsa-sha384'] : ['rsa-pss-sha384'];
  checks.require(path.chain.length === 3 && schemes.every((scheme) => allowed.includes(scheme)), {
    id: 'snp.chain-links',
    reference: SECTION,
    code: 'chain-invalid',
    message: 'The SEV-SNP chain is not VCEK, ASK, ARK with the signatures that AMD uses',
    expected: `3 certificates, ${allowed.join(' or ')}`,
    found: schemes.join(', '),
  });
  requireVcekPath(path, product, checks);
  return path;
}

/** The VCEK's extensions against the report; they must be there under AMD's own root. */
export function requireVcekOfReport(
  vcek: Certificate,
  report: SnpReport,
  product: SnpProduct,
  simulated: boolean,
  { checks }: VerifyContext,
): void {
  const tcb = splitTcb(report.reportedTcb, product);
  for (const part of ['bootLoader', 'tee', 'snp', 'microcode', ...(tcb.fmc === undefined ? [] : ['fmc'])]) {
    const name = part as 'bootLoader' | 'tee' | 'snp' | 'microcode' | 'fmc';
    const value = extensionValue(vcek, EXTENSION[name]);
    const certified = value && smallInteger(value);
    checks.require(certified === undefined ? simulated : certified === tcb[name], {
      id: `snp.vcek-${name}`,
      reference: SECTION,
      code: 'mismatch',
      message: 'The VCEK is for another TCB than the report',
      expected: certified === undefined ? `extension ${EXTENSION[name]}` : String(certified),
      found: certified === undefined ? 'none' : String(tcb[name]),
    });
  }
  const chipId = extensionValue(vcek, EXTENSION.chipId);
  checks.require(chipId === undefined ? simulated : isChip(chipId, report.chipId, product), {
    id: 'snp.vcek-chip-id',
    reference: SECTION,
    code: 'mismatch',
    message: 'The VCEK is of another chip than the report',
    expected: chipId ? toHex(chipId) : `extension ${EXTENSION.chipId}`,
    found: chipId ? toHex(report.chipId) : 'none',
  });
}

/** Turin names a chip by its first 8 bytes, Milan and Genoa by all 64 (AMD 57230, extension hwID). */
function isChip(certified: Uint8Array, chipId: Uint8Array, product: SnpProduct): boolean {
  const length = product === 'Turin' ? 8 : 64;
  return certified.length === length && equalBytes(certified, chipId.subarray(0, length));
}

function smallInteger(value: Uint8Array): number {
  return Number(decoding('VCEK extension', () => derInteger(readDer(value))));
}
