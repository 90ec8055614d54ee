/** What whoever holds a LUKS2 disk can write into its header: LUKS2 on-disk format specification 1.1.3. */
import { createHash } from 'node:crypto';

/** Size of each of the two copies as cryptsetup makes them, bytes. */
export const LUKS_COPY: number = 16 * 1024;
const BINARY = 4096;
const CHECKSUM = [448, 512] as const;

/**
 * Changes the metadata of a header's copies and makes their checksums right again, as an attacker would.
 *
 * @param header its start, at least both copies
 */
export function rewriteLuksHeader(header: Uint8Array, change: (json: string) => string): Uint8Array {
  const out = header.slice();
  for (const at of [0, LUKS_COPY]) {
    const copy = out.subarray(at, at + LUKS_COPY);
    const area = copy.subarray(BINARY);
    const end = area.indexOf(0);
    const changed = Buffer.from(change(Buffer.from(area.subarray(0, end)).toString()));
    area.fill(0);
    area.set(changed);
    copy.fill(0, ...CHECKSUM);
    copy.set(createHash('sha256').update(copy).digest(), CHECKSUM[0]);
  }
  return out;
}
