import { ByteWriter } from '@dstack-cloud/encoding';
import type { Tpm } from './tpm.ts';
import { ALG, type PcrBank } from './tpm-constants.ts';
import { EMPTY_PASSWORD } from './tpm-session.ts';
import { pcrSelection, take2b, tpm2b } from './tpm-structures.ts';

/**
 * TPM2_Quote with the key's own scheme.
 * @returns TPMS_ATTEST, and exactly the TPMT_SIGNATURE (the original stores the session area behind it)
 */
export async function tpmQuote(
  tpm: Tpm,
  key: number,
  qualifyingData: Uint8Array,
  bank: PcrBank,
  pcrs: readonly number[],
): Promise<{ message: Uint8Array; signature: Uint8Array }> {
  const { parameters } = await tpm.execute({
    code: 'quote',
    handles: [key],
    authorisations: [EMPTY_PASSWORD],
    parameters: new ByteWriter()
      .bytes(tpm2b(qualifyingData))
      .u16be(ALG.null)
      .bytes(pcrSelection(bank, pcrs))
      .finish(),
  });
  const message = take2b(parameters).slice();
  return { message, signature: parameters.rest().slice() };
}
