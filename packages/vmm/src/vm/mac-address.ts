import { createHash } from 'node:crypto';

/** The address of a machine's interface: of its id, so that it stays; locally administered, unicast (IEEE 802 section 8.2). */
export function macAddress(id: string, index: number): string {
  const name = index === 0 ? id : `${id}:${index}`;
  const bytes = createHash('sha256').update(name).digest().subarray(0, 6);
  bytes[0] = ((bytes[0] as number) & 0xfe) | 2;
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}
