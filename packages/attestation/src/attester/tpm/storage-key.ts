import { equalBytes, fromHex } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import type { Tpm } from './tpm.ts';
import { createPrimary, evictControl, type LoadedObject, readPublic } from './tpm-keys.ts';

/** Where our storage key is; the original keeps another kind at 0x81000100. */
export const STORAGE_KEY_HANDLE: number = 0x81000101;
/**
 * RSA-2048, restricted, decrypt, AES-128-CFB; ends with an empty modulus. With noDA, unlike the original's: a TPM counts
 * a power cut after the use of another key as a failed attempt (TPM 2.0 Part 1 section 19.8.6), and three of them would
 * lock the machine out of its data.
 */
const TEMPLATE: Uint8Array = fromHex('0001000b00030472000000060080004300100800000000000000');

/** The storage key of this TPM, made and given its handle if it is not there. @throws AttestationError `device` */
export async function storageKey(tpm: Tpm): Promise<LoadedObject> {
  const existing = await readPublic(tpm, STORAGE_KEY_HANDLE);
  if (existing) {
    checkTemplate(existing.publicArea);
    return existing;
  }
  const made = await createPrimary(tpm, 'owner', TEMPLATE);
  await evictControl(tpm, made.handle, STORAGE_KEY_HANDLE);
  await tpm.flush(made.handle);
  return { ...made, handle: STORAGE_KEY_HANDLE };
}

/** Another key at this handle could be one whose private part is known, or one that can be locked. */
function checkTemplate(publicArea: Uint8Array): void {
  const fixed = TEMPLATE.subarray(0, -2);
  if (equalBytes(publicArea.subarray(0, fixed.length), fixed)) return;
  const handle = `0x${STORAGE_KEY_HANDLE.toString(16)}`;
  throw new AttestationError('device', `The key at ${handle} of the TPM is no storage key of dstack`, {
    check: 'tpm.seal',
  });
}
