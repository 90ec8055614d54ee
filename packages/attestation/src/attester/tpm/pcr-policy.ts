import { createHash } from 'node:crypto';
import { ByteWriter, concatBytes } from '@dstack-cloud/encoding';
import type { Tpm } from './tpm.ts';
import { COMMAND, type PcrBank } from './tpm-constants.ts';
import { pcrSelection, take2b, tpm2b } from './tpm-structures.ts';

/**
 * PCRs of our sealing policy. The original's has 0, 2 and 14: firmware, the image where GCE measures it, runtime events.
 * 4 is where other firmware measures the image; 12 and 13 are what a boot stub loads beside it: whoever can write to the
 * boot partition could otherwise change the command line of the system to which the seed is released.
 */
export const SEALING_PCRS: readonly number[] = [0, 2, 4, 12, 13, 14];

/** The digest of a policy that is nothing but PolicyPCR over these values (TPM 2.0 Part 3 section 23.7). */
export function pcrPolicyDigest(
  bank: PcrBank,
  pcrs: readonly { readonly index: number; readonly value: Uint8Array }[],
): Uint8Array {
  const ordered = [...pcrs].sort((a, b) => a.index - b.index);
  const pcrDigest = sha256(...ordered.map(({ value }) => value));
  const selection = pcrSelection(
    bank,
    ordered.map(({ index }) => index),
  );
  const code = new ByteWriter().u32be(COMMAND.policyPcr).finish();
  return sha256(new Uint8Array(32), concatBytes(code, selection, pcrDigest));
}

/** Puts the current PCRs into a policy session. */
export async function policyPcr(
  tpm: Tpm,
  session: number,
  bank: PcrBank,
  pcrs: readonly number[],
): Promise<void> {
  await tpm.execute({
    code: 'policyPcr',
    handles: [session],
    // An empty digest: the TPM takes the registers as they are, and compares when the object is used.
    parameters: new ByteWriter().bytes(tpm2b(new Uint8Array())).bytes(pcrSelection(bank, pcrs)).finish(),
  });
}

/** The digest that a policy session has reached. */
export async function policyDigest(tpm: Tpm, session: number): Promise<Uint8Array> {
  const { parameters } = await tpm.execute({ code: 'policyGetDigest', handles: [session] });
  const digest = take2b(parameters).slice();
  parameters.finish();
  return digest;
}

function sha256(...parts: Uint8Array[]): Uint8Array {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}
