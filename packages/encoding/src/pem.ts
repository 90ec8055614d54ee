import { fromBase64, toBase64 } from './base64.ts';
import { EncodingError } from './errors.ts';

const MAX_PEM_CHARACTERS = 1 << 20;
const MAX_PEM_BLOCKS = 64;
const LINE = 64;

/** Writes one PEM block (RFC 7468): lines of 64 characters, ended by LF. */
export function encodePem(label: string, bytes: Uint8Array): string {
  const lines = toBase64(bytes).match(new RegExp(`.{1,${LINE}}`, 'g')) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n');
}

/** The bytes of the only PEM block with this label. @throws EncodingError when there is none or more than one */
export function decodePem(text: string, label: string): Uint8Array {
  const blocks = decodePemAll(text, label);
  if (blocks.length !== 1) {
    throw new EncodingError('invalid-value', `Expected one PEM block "${label}", found ${blocks.length}`);
  }
  return blocks[0]!;
}

/** The bytes of every PEM block with this label, in order; text outside of the blocks is skipped. */
export function decodePemAll(text: string, label: string): Uint8Array[] {
  if (text.length > MAX_PEM_CHARACTERS) throw new EncodingError('too-large', 'PEM text exceeds 1 MiB');
  const begin = `-----BEGIN ${label}-----`;
  const end = `-----END ${label}-----`;
  const blocks: Uint8Array[] = [];
  let position = text.indexOf(begin);
  while (position >= 0) {
    const bodyStart = position + begin.length;
    const bodyEnd = text.indexOf(end, bodyStart);
    if (bodyEnd < 0) throw new EncodingError('truncated', `PEM block "${label}" has no end`);
    blocks.push(fromBase64(text.slice(bodyStart, bodyEnd).replace(/[ \t\r\n]/g, '')));
    if (blocks.length > MAX_PEM_BLOCKS) throw new EncodingError('too-large', 'Too many PEM blocks');
    position = text.indexOf(begin, bodyEnd + end.length);
  }
  return blocks;
}
