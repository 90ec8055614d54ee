import { ByteWriter } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import type { Tpm } from './tpm.ts';
import { take2b } from './tpm-structures.ts';

const PER_CALL = 48;
const MAX_BYTES = 4096;

/** Random bytes of the TPM, at most 48 a call. @throws AttestationError `device` */
export async function tpmRandom(tpm: Tpm, length: number): Promise<Uint8Array> {
  if (length > MAX_BYTES) throw new AttestationError('too-large', `${length} random bytes`);
  const out = new Uint8Array(length);
  for (let at = 0; at < length; ) {
    const { parameters } = await tpm.execute({
      code: 'getRandom',
      parameters: new ByteWriter().u16be(Math.min(PER_CALL, length - at)).finish(),
    });
    const bytes = take2b(parameters);
    parameters.finish();
    if (bytes.length === 0 || bytes.length > length - at) {
      throw new AttestationError('device', `The TPM gave ${bytes.length} random bytes`);
    }
    out.set(bytes, at);
    at += bytes.length;
  }
  return out;
}
