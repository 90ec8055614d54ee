import { GuestError } from '../errors.ts';

/**
 * Splits a command line as compose does for a command written as text: blanks separate, quotes and backslash protect,
 * nothing is expanded and no shell runs.
 *
 * @throws GuestError `compose-invalid` for an unfinished quote
 */
export function splitCommand(text: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let at = 0; at < text.length; at++) {
    const character = text[at] as string;
    if (character === '\\' && quote !== "'") {
      word = (word ?? '') + escaped(text[++at], quote);
    } else if (quote !== '') {
      if (character === quote) quote = '';
      else word += character;
    } else if (character === '"' || character === "'") {
      quote = character;
      word ??= '';
    } else if (/\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else {
      word = (word ?? '') + character;
    }
  }
  if (quote !== '') throw new GuestError('compose-invalid', `Command has an unfinished ${quote} quote`);
  if (word !== undefined) words.push(word);
  return words;
}

/** Inside double quotes a backslash protects only what would be special there (POSIX shell, section 2.2.3). */
function escaped(character: string | undefined, quote: string): string {
  if (character === undefined) throw new GuestError('compose-invalid', 'Command ends with a backslash');
  return quote === '"' && !/["\\$`]/.test(character) ? `\\${character}` : character;
}
