import { EncodingError, fromBase64, fromHex, utf8Text } from '@dstack-cloud/encoding';

/** Bytes that turned out to be text of a known encoding. */
export type DecodedText =
  | { readonly encoding: 'json'; readonly value: unknown }
  | { readonly encoding: 'pem'; readonly value: string }
  | { readonly encoding: 'hex' | 'base64'; readonly bytes: Uint8Array };

/** Reads JSON, PEM, hex or base64 text, blanks and line ends aside; undefined for anything else. */
export function decodeText(bytes: Uint8Array): DecodedText | undefined {
  const text = textOf(bytes);
  if (text === undefined) return undefined;
  if (text.startsWith('{')) return decodeJson(text);
  if (text.includes('-----BEGIN CERTIFICATE-----')) return { encoding: 'pem', value: text };
  const packed = text.replace(/\s+/g, '');
  if (/^(0[xX])?[0-9a-fA-F]+$/.test(packed) && packed.length % 2 === 0) {
    return { encoding: 'hex', bytes: fromHex(packed, { prefix: 'allow' }) };
  }
  if (/^[0-9A-Za-z+/]+={0,2}$/.test(packed)) return decodeBase64(packed);
  return undefined;
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

function decodeBase64(text: string): DecodedText | undefined {
  try {
    return { encoding: 'base64', bytes: fromBase64(text) };
  } catch (error) {
    if (error instanceof EncodingError) return undefined;
    throw error;
  }
}
