import { AttestationError } from '../errors.ts';

/** A PCR of verified evidence. @throws AttestationError `malformed` when it is not there */
export function pcrOf(pcrs: ReadonlyMap<number, Uint8Array>, index: number): Uint8Array {
  const value = pcrs.get(index);
  if (value) return value;
  throw new AttestationError('malformed', `PCR ${index} is missing`);
}
