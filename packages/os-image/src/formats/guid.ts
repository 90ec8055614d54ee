import { fromHex, toHex } from '@dstack-cloud/encoding';
import { OsImageError } from '../errors.ts';

const TEXT = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** The 16 bytes of a GUID on disk: the first three fields little-endian (UEFI 2.10, appendix A). */
export function guidBytes(text: string): Uint8Array {
  if (!TEXT.test(text)) throw new OsImageError('format', `${JSON.stringify(text)} is not a GUID`);
  return swapFields(uuidBytes(text));
}

/** The 16 bytes of a UUID in the order of its text (RFC 9562). */
export function uuidBytes(text: string): Uint8Array {
  if (!TEXT.test(text)) throw new OsImageError('format', `${JSON.stringify(text)} is not a UUID`);
  return fromHex(text.replaceAll('-', '').toLowerCase());
}

/** The text of a GUID as it lies on disk, in lower case. */
export function guidText(bytes: Uint8Array): string {
  const hex = toHex(swapFields(bytes));
  return [8, 12, 16, 20, 32].map((end, i, ends) => hex.slice(i === 0 ? 0 : ends[i - 1], end)).join('-');
}

function swapFields(bytes: Uint8Array): Uint8Array {
  return Uint8Array.of(
    ...bytes.slice(0, 4).reverse(),
    ...bytes.slice(4, 6).reverse(),
    ...bytes.slice(6, 8).reverse(),
    ...bytes.slice(8, 16),
  );
}
