import { equalBytes, fromHex } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import type { Tpm } from './tpm.ts';
import { createPrimary, evictControl, type LoadedObject, readPublic } from './tpm-keys.ts';

/** Where dstack keeps its storage key. */
export const STORAGE_KEY_HANDLE: number = 0x81000100;
/** RSA-2048, restricted, decrypt, AES-128-CFB (chapter 20 section 4.7); ends with an empty modulus. */
const TEMPLATE: Uint8Array = fromHex('0001000b00030072000000060080004300100800000000000000');

/** The storage key of this TPM, made and given its handle if it is not there. @throws AttestationError `device` */
export async function storageKey(tpm: Tpm, handle: number = STORAGE_KEY_HANDLE): Promise<LoadedObject> {
  const existing = await readPublic(tpm, handle);
  if (existing) {
    checkTemplate(existing.publicArea, handle);
    return existing;
  }
  const made = await createPrimary(tpm, 'owner', TEMPLATE);
  await evictControl(tpm, made.handle, handle);
  await tpm.flush(made.handle);
  return { ...made, handle };
}

/** Another key at this handle could be one whose private part is known. */
function checkTemplate(publicArea: Uint8Array, handle: number): void {
  const fixed = TEMPLATE.subarray(0, -2);
  if (equalBytes(publicArea.subarray(0, fixed.length), fixed)) return;
  throw new AttestationError(
    'device',
    `The key at 0x${handle.toString(16)} of the TPM is no storage key of dstack`,
  );
}
