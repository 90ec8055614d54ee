import { bytesFromText, EncodingError } from '@dstack-cloud/encoding';
import { VerifierError } from '../errors.ts';

const MAX_BYTES = 64;

/** A challenge as a person gives it: 1 to 64 bytes in hex or base64. @throws VerifierError `expectation` */
export function reportDataOf(text: string): Uint8Array {
  let bytes: Uint8Array;
  try {
    ({ bytes } = bytesFromText(text));
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw new VerifierError('expectation', `The report data is neither hex nor base64: ${cause.message}`, {
      cause,
    });
  }
  if (bytes.length > 0 && bytes.length <= MAX_BYTES) return bytes;
  throw new VerifierError('expectation', `The report data has ${bytes.length} bytes, not 1 to ${MAX_BYTES}`);
}
