import type { CheckRecorder } from '../check-recorder.ts';
import { AttestationError } from '../errors.ts';
import { type Certificate, extensionValue, nameAttribute } from '../x509/certificate.ts';
import type { ValidatedPath } from '../x509/validate-path.ts';
import { SGX_EXTENSION } from './pck-extension.ts';

const COMMON_NAME = '2.5.4.3';
const PROFILE = 'Intel SGX PCK Certificate and CRL Profile Specification';

/**
 * Everything of Intel's ends at one root, so a path alone does not say what its leaf may sign: a PCK key, which belongs
 * to one machine, must not be able to sign the TCB info that its own machine is appraised by.
 */
const SIGNERS = {
  'tcb-info': ['Intel SGX TCB Signing'],
  'qe-identity': ['Intel SGX TCB Signing'],
} as const;
/** Test roots of the original sign the identity with a certificate of its own. */
const SIMULATED_QE_SIGNER = 'Intel SGX QE Identity Signing';
const PCK_NAME = 'Intel SGX PCK Certificate';
const PCK_CAS = ['Intel SGX PCK Platform CA', 'Intel SGX PCK Processor CA'];

/**
 * TCB info and QE identity are signed by Intel's TCB signing certificate alone (PCS API v4, "Get TDX TCB Info"): issued
 * by the root itself, of that name, and without the SGX extension that makes a certificate a machine's.
 */
export function requireTcbSigner(
  name: keyof typeof SIGNERS,
  { chain, anchor }: ValidatedPath,
  checks: CheckRecorder,
): void {
  const leaf = chain[0]!;
  const names =
    anchor.simulated && name === 'qe-identity' ? [...SIGNERS[name], SIMULATED_QE_SIGNER] : SIGNERS[name];
  const isMachine = extensionValue(leaf, SGX_EXTENSION) !== undefined;
  checks.require(chain.length === 2 && !isMachine && isNamed(leaf, names, anchor.simulated), {
    id: `tdx.${name}-signer`,
    reference: PROFILE,
    code: 'chain-invalid',
    message: `The ${name} is signed by a certificate that is not for signing it`,
    expected: `${names.join(' or ')}, issued by the root, without SGX extension`,
    found: () => `${found(chain)}${isMachine ? ', with SGX extension' : ''}`,
  });
}

/**
 * QE reports are signed by PCK certificates alone, which a PCK CA issues. That the leaf has the SGX extension, its
 * reader demands.
 * @throws AttestationError `chain-invalid`
 */
export function requirePckPath({ chain, anchor }: ValidatedPath): void {
  const [leaf, ca] = chain;
  const isPck =
    chain.length === 3 &&
    isNamed(leaf!, [PCK_NAME], anchor.simulated) &&
    isNamed(ca!, PCK_CAS, anchor.simulated);
  if (isPck) return;
  throw new AttestationError('chain-invalid', 'The QE report is signed by a certificate that is not a PCK', {
    expected: `${PCK_NAME}, issued by ${PCK_CAS.join(' or ')}`,
    found: found(chain),
  });
}

/** Under a root that is not Intel's, a word before the name tells whose it is ("Mock Intel SGX TCB Signing"). */
function isNamed(certificate: Certificate, names: readonly string[], simulated: boolean): boolean {
  const name = nameAttribute(certificate.subject, COMMON_NAME);
  if (name === undefined) return false;
  return names.includes(name) || (simulated && names.includes(name.replace(/^[A-Za-z]{1,32} /, '')));
}

/** Names from the leaf up, the root's left out. */
function found(chain: readonly Certificate[]): string {
  const names = chain.slice(0, -1).map(({ subject }) => nameAttribute(subject, COMMON_NAME) ?? 'no name');
  return names.join(', issued by ').slice(0, 200);
}
