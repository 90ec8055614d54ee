/** Whether a text is a WireGuard public key: canonical base64 of 32 bytes, not all of them zero. */
export function isWireGuardKey(text: string): boolean {
  if (!/^[A-Za-z0-9+/]{43}=$/.test(text)) return false;
  const bytes = Buffer.from(text, 'base64');
  // One key has one text: the last digit has two bits that decoders ignore.
  return bytes.length === 32 && bytes.toString('base64') === text && bytes.some((byte) => byte !== 0);
}
