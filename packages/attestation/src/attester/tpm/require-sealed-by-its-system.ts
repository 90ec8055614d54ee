import { createHash } from 'node:crypto';
import { ByteReader, equalBytes } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import { SEALING_PCRS } from './pcr-policy.ts';
import type { SealedBlob } from './sealed-blob.ts';
import type { Tpm } from './tpm.ts';
import { HANDLE } from './tpm-constants.ts';
import { certifyCreation, type LoadedObject, loadObject } from './tpm-keys.ts';
import { TpmResponseError } from './tpm-response-error.ts';
import { readPcrSelection, take2b } from './tpm-structures.ts';

/** TPM_ST_CREATION and TPM_RC_TICKET (Part 2 sections 6.9 and 6.6.3). */
const CREATION_TAG = 0x8021;
const RC_TICKET = 0xa0;
/** TPM_RC_HASH and TPM_RC_SIZE and TPM_RC_VALUE also say that the ticket is none. */
const NO_TICKET = [RC_TICKET, 0x83, 0x84, 0x95];

/**
 * Demands the TPM's word that the system which a seal names made it. NV memory and the storage key are open to every
 * system that runs on this TPM: one that ran before could leave a seal of a seed that it knows. In the state which the
 * seal is bound to there was nobody but the guest, and it seals nothing but a seed of its own.
 *
 * @throws AttestationError `mismatch`
 */
export async function requireSealedByItsSystem(
  tpm: Tpm,
  key: Pick<LoadedObject, 'handle'>,
  blob: SealedBlob,
): Promise<void> {
  const why = wrongCreation(blob);
  if (why !== undefined) throw planted(why);
  const object = await loadObject(tpm, key.handle, blob);
  try {
    const { creationTicket } = blob;
    await certifyCreation(tpm, object.handle, { creationHash: sha256(blob.creationData), creationTicket });
  } catch (error) {
    if (error instanceof TpmResponseError && NO_TICKET.includes(error.baseCode))
      throw planted('the TPM has not made it so', error);
    throw error;
  } finally {
    await tpm.flush(object.handle);
  }
}

/** What the creation data says that it should not; undefined when it is that of the registers of the seal. */
function wrongCreation({ creationData, creationTicket, pcrs }: SealedBlob): string | undefined {
  try {
    const ticket = new ByteReader(creationTicket);
    if (ticket.u16be() !== CREATION_TAG || ticket.u32be() !== HANDLE.owner)
      return 'its ticket is not one for a creation below the storage key';
    const data = new ByteReader(creationData);
    const atCreation = readPcrSelection(data, 'sha256').join();
    if (atCreation !== SEALING_PCRS.join() || pcrs.map(({ index }) => index).join() !== atCreation)
      return `it is bound to other registers than ${SEALING_PCRS.join(', ')}`;
    if (!equalBytes(take2b(data), sha256(...pcrs.map(({ value }) => value))))
      return 'it was made by a system with other registers';
    return undefined;
  } catch {
    return 'its creation data cannot be read';
  }
}

function planted(why: string, cause?: unknown): AttestationError {
  return new AttestationError(
    'mismatch',
    `The TPM holds a seal that this guest does not trust: ${why}, so somebody else may know its seed; if no data depends on it, remove it with tpm2_nvundefine 0x01801101`,
    { check: 'tpm.seal', expected: 'a seal made by the system that it is bound to', found: why, cause },
  );
}

function sha256(...parts: Uint8Array[]): Uint8Array {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}
