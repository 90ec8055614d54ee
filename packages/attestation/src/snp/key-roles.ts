import type { CheckRecorder } from '../check-recorder.ts';
import type { SnpProduct } from '../platform-evidence.ts';
import { type Certificate, extensionValue, nameAttribute } from '../x509/certificate.ts';
import type { ValidatedPath } from '../x509/validate-path.ts';

const COMMON_NAME = '2.5.4.3';
/** Name of the cloud that a VLEK belongs to (AMD 57230, table of VLEK extensions). */
const CSP_ID = '1.3.6.1.4.1.3704.1.5';

/** A VLEK belongs to a cloud provider, which loads it into any of its chips: it says nothing of which one signed. */
export function isVlek(leaf: Certificate): boolean {
  return (
    extensionValue(leaf, CSP_ID) !== undefined || nameAttribute(leaf.subject, COMMON_NAME) === 'SEV-VLEK'
  );
}

/**
 * Reports are signed by a VCEK, which the family's ASK issued: the ASVK hangs off the same root, and issues VLEKs. AMD
 * tells them apart by name (AMD 57230, "Certificate Chain").
 */
export function requireVcekPath(
  { chain, anchor }: ValidatedPath,
  product: SnpProduct,
  checks: CheckRecorder,
): void {
  const [leaf, issuer] = chain.slice(0, 2).map(({ subject }) => nameAttribute(subject, COMMON_NAME) ?? '');
  const isNamed = leaf === 'SEV-VCEK' && issuer === `SEV-${product}`;
  checks.require(!isVlek(chain[0]!) && (anchor.simulated || isNamed), {
    id: 'snp.chain-roles',
    reference: 'AMD 57230, VCEK Certificate and KDS Interface Specification',
    code: 'chain-invalid',
    message: 'The certificate is not one for signing reports',
    expected: `SEV-VCEK, issued by SEV-${product}`,
    found: `${leaf?.slice(0, 64)}, issued by ${issuer?.slice(0, 64)}`,
  });
}
