import type { Refuse } from './tar-header.ts';

const MAX_LENGTH_DIGITS = 7;

/**
 * Records `LENGTH KEY=VALUE LF`, whose length counts itself (POSIX.1-2017 pax, "pax Header Block"); bytes as Latin-1.
 *
 * @throws what `refuse` makes
 */
export function* paxRecords(bytes: Uint8Array, refuse: Refuse): Generator<[key: string, value: string]> {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
  for (let at = 0; at < all.length; ) {
    const digits = /^([1-9]\d{0,6}) /.exec(all.slice(at, at + MAX_LENGTH_DIGITS + 1))?.[1];
    const length = Number(digits);
    const record = all.slice(at, at + length);
    const equals = record.indexOf('=');
    const start = (digits ?? '').length + 1;
    if (record.length !== length || !record.endsWith('\n') || equals <= start)
      throw refuse('has an extended header that cannot be read');
    yield [record.slice(start, equals), record.slice(equals + 1, -1)];
    at += length;
  }
}
