import type { CheckRecorder } from '../check-recorder.ts';
import { nameAttribute } from '../x509/certificate.ts';
import type { ValidatedPath } from '../x509/validate-path.ts';

const COMMON_NAME = '2.5.4.3';
const REFERENCE = 'AWS Nitro Enclaves, "Verifying the root of trust"';

/** The end of a module's name: a Nitro hypervisor gives enclaves and NitroTPMs keys under one and the same root. */
const MODULE: Readonly<Record<'nsm' | 'nitro-tpm', RegExp>> = {
  nsm: /-enc[0-9a-f]{1,32}$/,
  'nitro-tpm': /-tpm[0-9a-f]{1,32}$/,
};

/**
 * A document is signed by a key of the module that it speaks for, which AWS names in the certificate
 * (`<module>.<region>.aws`): otherwise any enclave could speak for any other module, and an enclave for the TPM of
 * its instance. Test roots do not name modules so; a module of the other kind is refused under them too.
 */
export function requireDocumentSigner(
  kind: 'nsm' | 'nitro-tpm',
  moduleId: string,
  { chain, anchor }: ValidatedPath,
  checks: CheckRecorder,
): void {
  const leaf = chain[0]!;
  // Without the extension any use is allowed (RFC 5280 section 4.2.1.3); AWS always states it.
  const maySign = leaf.keyUsage?.digitalSignature ?? anchor.simulated;
  checks.require(maySign, {
    id: 'nitro.leaf-usage',
    reference: REFERENCE,
    code: 'chain-invalid',
    message: 'The certificate of the attestation document may not sign (keyUsage digitalSignature)',
    expected: 'digitalSignature',
    found: leaf.keyUsage ? 'other uses' : 'no keyUsage',
  });
  const name = nameAttribute(leaf.subject, COMMON_NAME) ?? '';
  const other = MODULE[kind === 'nsm' ? 'nitro-tpm' : 'nsm'];
  const isOwn = anchor.simulated
    ? !other.test(moduleId)
    : MODULE[kind].test(moduleId) && name.startsWith(`${moduleId}.`) && name.endsWith('.aws');
  checks.require(isOwn, {
    id: 'nitro.module',
    reference: REFERENCE,
    code: 'chain-invalid',
    message:
      kind === 'nsm'
        ? 'The attestation document is not one of an enclave, or signed by that of another'
        : 'The attestation document is not one of a NitroTPM, or signed by that of another',
    expected: kind === 'nsm' ? '…-enc…, the name in the certificate' : '…-tpm…, the name in the certificate',
    found: `${moduleId.slice(0, 80)}, certificate of ${name.slice(0, 80)}`,
  });
}
