import { equalBytes, toHex } from '@dstack-cloud/encoding';
import type { VerifyContext } from '../verify-context.ts';
import { parseTpmsAttest, TPM_ALGORITHM, type TpmsAttest } from './tpms-attest.ts';
import type { TpmSignature } from './tpmt-signature.ts';

/** One quoted register. */
export interface QuotedPcr {
  readonly index: number;
  readonly value: Uint8Array;
}

export interface QuoteInput {
  /** TPMS_ATTEST. */
  readonly message: Uint8Array;
  readonly signature: TpmSignature;
  readonly bank: 'sha256' | 'sha384';
  /** In the order in which their digest was made. */
  readonly pcrs: readonly QuotedPcr[];
  /** SubjectPublicKeyInfo of the attestation key. */
  readonly key: Uint8Array;
}

const BANK_BYTES = { sha256: 32, sha384: 48 } as const;
const SECTION = 'docs/protocol/verification.md section 4';

/**
 * A TPM2_Quote on its own: form, one selection of the bank, the registers it covers, their digest, and the
 * signature (docs/protocol/verification.md section 4 steps 2 and 3). Whose key it is, the caller must find out.
 * @throws AttestationError
 */
export async function verifyTpmQuote(input: QuoteInput, context: VerifyContext): Promise<TpmsAttest> {
  const { checks, crypto, cache } = context;
  const attest = await checks.step('tpm.attest', `${SECTION} step 2`, () => parseTpmsAttest(input.message));
  requireSelection(input, attest, context);
  // TPM2_Quote hashes with the signing scheme's hash, SHA-256, whatever the bank (Part 3 section 18.4).
  const digest = crypto.hash('sha256', ...input.pcrs.map((pcr) => pcr.value));
  checks.require(equalBytes(digest, attest.pcrDigest), {
    id: 'tpm.pcr-digest',
    reference: `${SECTION} step 2`,
    code: 'mismatch',
    message: 'PCR digest mismatch: the quoted digest is not of these PCR values',
    expected: toHex(attest.pcrDigest),
    found: toHex(digest),
  });
  const key = await checks.attempt('tpm.signature', `${SECTION} step 3`, () => cache.key(crypto, input.key));
  const good = await crypto.verify(key, input.signature.scheme, input.signature.bytes, input.message);
  checks.require(good, {
    id: 'tpm.signature',
    reference: `${SECTION} step 3`,
    code: 'signature-invalid',
    message: 'The TPM quote is not signed by its attestation key',
  });
  return attest;
}

function requireSelection(input: QuoteInput, attest: TpmsAttest, { checks }: VerifyContext): void {
  const reference = `${SECTION} step 2`;
  checks.require(attest.selections.length === 1, {
    id: 'tpm.one-selection',
    reference,
    code: 'malformed',
    message: 'A quote must have exactly one PCR selection',
    expected: '1',
    found: String(attest.selections.length),
  });
  const selection = attest.selections[0]!;
  checks.require(selection.algorithm === TPM_ALGORITHM[input.bank], {
    id: 'tpm.bank',
    reference,
    code: 'unsupported',
    message: 'The quote is over another PCR bank',
    expected: hex16(TPM_ALGORITHM[input.bank]),
    found: hex16(selection.algorithm),
  });
  const indices = input.pcrs.map((pcr) => pcr.index).join(',');
  checks.require(selection.pcrs.length > 0 && selection.pcrs.join(',') === indices, {
    id: 'tpm.selection',
    reference,
    code: 'mismatch',
    message: 'PCR selection mismatch: the quote covers other PCRs than those supplied',
    expected: selection.pcrs.join(','),
    found: indices,
  });
  const size = BANK_BYTES[input.bank];
  const odd = input.pcrs.find((pcr) => pcr.value.length !== size);
  checks.require(odd === undefined, {
    id: 'tpm.pcr-values',
    reference,
    code: 'malformed',
    message: `Every PCR value of this bank has ${size} bytes`,
    expected: String(size),
    found: odd && `PCR ${odd.index}: ${odd.value.length}`,
  });
}

function hex16(value: number): string {
  return `0x${value.toString(16).padStart(4, '0')}`;
}
