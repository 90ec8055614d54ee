import { EncodingError } from '@dstack-cloud/encoding';
import { AttestationError } from './errors.ts';

/**
 * Runs a parser and turns its EncodingError into this package's error.
 * @param what names the structure in the message
 */
export function decoding<T>(what: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof EncodingError)) throw error;
    const code = error.code === 'too-large' ? 'too-large' : 'malformed';
    throw new AttestationError(code, `${what}: ${error.message}`, { cause: error });
  }
}
