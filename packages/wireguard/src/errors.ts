/** A program failed, or the interface is somebody else's; the message says which. */
export class WireGuardError extends Error {
  override readonly name = 'WireGuardError';
}
