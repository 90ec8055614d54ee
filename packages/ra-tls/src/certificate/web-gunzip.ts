/**
 * Browsers inflate only asynchronously. The compressed form is one that may be read but that nobody writes
 * (docs/protocol/ra-tls.md section 1.2), so it is refused there rather than carried along by a library.
 */
export function gunzip(_bytes: Uint8Array, _maxBytes: number): Uint8Array {
  throw new Error('A compressed event log cannot be read in a browser');
}
