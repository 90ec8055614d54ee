import { AttestationError } from '../../errors.ts';
import { encodeSealedBlob, parseSealedBlob, type SealedBlob } from './sealed-blob.ts';
import type { Tpm } from './tpm.ts';
import { nvDefine, nvRead, nvReadPublic, nvUndefine, nvWrite } from './tpm-nv.ts';

/** Where dstack keeps the sealed seed, and where the next seal is written before the present one goes. */
export const SEED_NV_INDEX: number = 0x01801101;
export const SEED_NV_SPARE: number = 0x01801102;
const INDICES: readonly number[] = [SEED_NV_INDEX, SEED_NV_SPARE];

/** A whole seal and where it is. */
export interface StoredSeal {
  readonly index: number;
  readonly blob: SealedBlob;
}

/**
 * The seals of this TPM, the newest first. An index that was defined and never written is as good as absent: a machine
 * that was cut off there had no seed yet, or still has the seal before.
 * @throws AttestationError `malformed` when there is something and no whole seal among it
 */
export async function readSeals(tpm: Tpm): Promise<StoredSeal[]> {
  const seals: StoredSeal[] = [];
  const damaged: number[] = [];
  for (const index of INDICES) {
    const stored = await nvRead(tpm, index);
    if (stored === undefined) continue;
    const blob = parseSealedBlob(stored);
    if (blob) seals.push({ index, blob });
    else damaged.push(index);
  }
  if (seals.length === 0 && damaged.length > 0) {
    const names = damaged.map((index) => `0x${index.toString(16).padStart(8, '0')}`);
    throw new AttestationError(
      'malformed',
      `NV index ${names.join(' and ')} of the TPM holds something that is no seal of this guest; if no data depends on it, remove it with tpm2_nvundefine ${names[0]}`,
      { check: 'tpm.seal', expected: 'a sealed seed', found: 'unreadable bytes' },
    );
  }
  return seals.sort((a, b) => b.blob.number - a.blob.number);
}

/** Writes a seal beside the present one. @returns where it is */
export async function writeSeal(tpm: Tpm, blob: SealedBlob, present?: StoredSeal): Promise<StoredSeal> {
  const index = present?.index === SEED_NV_INDEX ? SEED_NV_SPARE : SEED_NV_INDEX;
  const bytes = encodeSealedBlob(blob);
  await forget(tpm, index);
  await nvDefine(tpm, index, bytes.length);
  await nvWrite(tpm, index, bytes);
  return { index, blob };
}

/** Removes what is beside the seal that counts. */
export async function keepOnly(tpm: Tpm, { index }: StoredSeal): Promise<void> {
  for (const other of INDICES) if (other !== index) await forget(tpm, other);
}

async function forget(tpm: Tpm, index: number): Promise<void> {
  if ((await nvReadPublic(tpm, index)) !== undefined) await nvUndefine(tpm, index);
}
