import { printable, utf8 } from '@dstack-cloud/encoding';

/** Longest text of a backend that goes to a client or a log line, in UTF-8 bytes. */
const MAX_PUBLIC_TEXT = 512;

const address = /\b[a-z][a-z0-9+.-]*:\/\/[^\s"'<>]+/gi;

/**
 * Make a backend's words fit to show: no addresses (they may carry API keys), nothing that commands or hides, bounded.
 * The cut falls between characters: the original ends its process when it does not.
 */
export function publicText(text: string, maxBytes: number = MAX_PUBLIC_TEXT): string {
  // Bound the work first; a character is at least one byte.
  const clean = text
    .slice(0, maxBytes * 4)
    .replace(address, '<address>')
    .replace(/\p{Cc}+/gu, ' ')
    .replace(/\p{Cs}/gu, '\ufffd');
  return cutAtCharacter(printable(clean, { max: clean.length * 10 }), maxBytes);
}

/** The longest prefix of whole characters that fits into `maxBytes` of UTF-8. */
export function cutAtCharacter(text: string, maxBytes: number): string {
  let size = 0;
  let end = 0;
  for (const character of text) {
    size += utf8(character).length;
    if (size > maxBytes) break;
    end += character.length;
  }
  return text.slice(0, end);
}
