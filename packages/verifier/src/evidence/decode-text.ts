import { bytesFromText, EncodingError, utf8Text } from '@dstack-cloud/encoding';

/** Bytes that turned out to be text of a known encoding. */
export type DecodedText =
  | { readonly encoding: 'json'; readonly value: unknown }
  | { readonly encoding: 'pem'; readonly value: string }
  | { readonly encoding: 'hex' | 'base64'; readonly bytes: Uint8Array };

/**
 * Reads JSON, PEM, hex or base64 text (either alphabet, padded or not), blanks and line ends aside. Each text has one
 * meaning: see `bytesFromText`.
 * @returns undefined for anything else
 */
export function decodeText(bytes: Uint8Array): DecodedText | undefined {
  const text = textOf(bytes);
  if (text === undefined) return undefined;
  if (text.startsWith('{')) return decodeJson(text);
  if (text.includes('-----BEGIN CERTIFICATE-----')) return { encoding: 'pem', value: text };
  try {
    return bytesFromText(text);
  } catch (error) {
    if (error instanceof EncodingError) return undefined;
    throw error;
  }
}

/** Text of bytes that look like it; binary is told apart by its first kilobyte. */
function textOf(bytes: Uint8Array): string | undefined {
  const isText = (byte: number): boolean => byte >= 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d;
  if (!bytes.subarray(0, 1024).every(isText)) return undefined;
  try {
    return utf8Text(bytes)
      .replace(/^\uFEFF/, '')
      .trim();
  } catch (error) {
    if (error instanceof EncodingError) return undefined;
    throw error;
  }
}

function decodeJson(text: string): DecodedText | undefined {
  try {
    return { encoding: 'json', value: JSON.parse(text) as unknown };
  } catch {
    return undefined;
  }
}
