import { gunzipSync } from 'node:zlib';

/** Inflates a gzip stream to at most `maxBytes`. @throws what zlib throws */
export function gunzip(bytes: Uint8Array, maxBytes: number): Uint8Array {
  return new Uint8Array(gunzipSync(bytes, { maxOutputLength: maxBytes }));
}
