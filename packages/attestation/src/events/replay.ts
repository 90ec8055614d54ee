import { AttestationError } from '../errors.ts';

/** R = H(R ‖ digest) over a list of digests, from `initial` (default zeros). */
export function replayDigests(
  _digests: readonly Uint8Array[],
  _algorithm: 'sha384' | 'sha256',
  _initial?: Uint8Array,
): Uint8Array {
  throw new AttestationError('unsupported', 'not available');
}
