import { readFileBounded } from '@dstack-cloud/app';
import { fromHex, utf8Text } from '@dstack-cloud/encoding';
import { SimulatorError } from '../errors.ts';

const SEED_BYTES = 32;
const MAX_FILE = 256;

/** Reads a seed file: 32 raw bytes, or 64 hex digits. @throws SimulatorError `state` */
export async function readSeed(path: string): Promise<Uint8Array> {
  let bytes: Uint8Array;
  try {
    bytes = await readFileBounded(path, MAX_FILE);
  } catch (cause) {
    throw new SimulatorError('state', `Cannot read the seed file: ${(cause as Error).message}`, { cause });
  }
  if (bytes.length === SEED_BYTES) return bytes;
  try {
    return fromHex(utf8Text(bytes).trim(), { length: SEED_BYTES });
  } catch (cause) {
    throw new SimulatorError('state', `${path} holds neither 32 bytes nor 64 hex digits`, { cause });
  }
}
