import type { AttestationErrorCode } from '../errors.ts';
import type { VerifyContext } from '../verify-context.ts';
import type { SnpReport } from './report.ts';

/** Bits of POLICY and PLATFORM_INFO (AMD 56860, tables "Guest Policy" and "PLATFORM_INFO"). */
const POLICY = { smt: 16n, migrationAgent: 18n, debug: 19n, raplOff: 23n, ciphertextHiding: 24n } as const;
const PLATFORM = { smt: 0n, raplOff: 3n, ciphertextHiding: 4n, aliasCheckComplete: 5n } as const;
const MASK_CHIP_KEY = 0b10;
const SECTION = 'docs/protocol/verification.md section 7';

/** What a guest's policy may say and its platform must then do. @throws AttestationError */
export function requirePolicy(report: SnpReport, { checks }: VerifyContext): void {
  const policy = (bit: keyof typeof POLICY): boolean => ((report.policy >> POLICY[bit]) & 1n) === 1n;
  const platform = (bit: keyof typeof PLATFORM): boolean =>
    ((report.platformInfo >> PLATFORM[bit]) & 1n) === 1n;
  const rules: readonly [string, boolean, AttestationErrorCode, string][] = [
    ['vmpl', report.vmpl === 0, 'attributes', 'The report was not requested from VMPL 0'],
    ['debug', !policy('debug'), 'debug', 'The guest policy allows debugging: memory is open to the host'],
    ['migration', !policy('migrationAgent'), 'attributes', 'The guest policy allows a migration agent'],
    ['chip-key', (report.keyInfo & MASK_CHIP_KEY) === 0, 'attributes', 'The chip key is masked'],
    ['smt', !platform('smt') || policy('smt'), 'attributes', 'SMT is on, but the guest policy forbids it'],
    [
      'rapl',
      !policy('raplOff') || platform('raplOff'),
      'attributes',
      'The guest policy demands RAPL off, but it is on',
    ],
    [
      'ciphertext-hiding',
      !policy('ciphertextHiding') || platform('ciphertextHiding'),
      'attributes',
      'The guest policy demands ciphertext hiding, but it is off',
    ],
  ];
  for (const [name, ok, code, message] of rules) {
    checks.require(ok, {
      id: `snp.${name}`,
      reference: SECTION,
      code,
      message,
      ...(ok ? {} : { found: `policy ${hex(report.policy)}, platform ${hex(report.platformInfo)}` }),
    });
  }
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}

/** SIGNING_KEY of KEY_INFO (AMD 56860, table "ATTESTATION_REPORT Structure"). */
const SIGNING_KEYS: Readonly<Record<number, string>> = { 0: 'VCEK', 1: 'VLEK', 7: 'none' };

/** A VLEK is the cloud provider's key: it vouches for some chip of theirs, not for this one. @throws AttestationError */
export function requireVcekSigned({ keyInfo }: SnpReport, { checks }: VerifyContext): void {
  const signingKey = (keyInfo >> 2) & 0b111;
  const name = SIGNING_KEYS[signingKey] ?? `reserved (${signingKey})`;
  checks.require(signingKey === 0, {
    id: 'snp.signing-key',
    reference: SECTION,
    code: 'unsupported',
    message: `The report is signed by another key than a VCEK: ${name}`,
    expected: 'VCEK',
    found: name,
  });
}

/** Firmware that mitigates AMD-SB-3015 found no aliases in memory; older firmware does not know the bit. */
export function isAliasCheckComplete({ platformInfo }: SnpReport): boolean {
  return ((platformInfo >> PLATFORM.aliasCheckComplete) & 1n) === 1n;
}
