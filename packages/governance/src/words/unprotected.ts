/** SHA-256 of nothing, of the three zero PCRs of a debug enclave, and zero, which missing data is. */
const UNPROTECTED = new Set([
  '0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  '0x81c611f35bff79491538b2f7cf201c7597a661a5c549633541c62bdc8af1613f',
  `0x${'0'.repeat(64)}`,
]);

/** Whether a measurement is one that systems without protection have. */
export function isUnprotected(value: string): boolean {
  return UNPROTECTED.has(value.toLowerCase());
}
