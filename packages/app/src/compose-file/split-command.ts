/**
 * Splits a command line as compose does for a command written as text: blanks separate, quotes and backslash protect,
 * nothing is expanded and no shell runs. The result is a sentence when the text has no end.
 */
export function splitCommand(text: string): readonly string[] | { readonly problem: string } {
  const words: string[] = [];
  let word: string | undefined;
  let quote = '';
  for (let at = 0; at < text.length; at++) {
    const character = text[at] as string;
    if (character === '\\' && quote !== "'") {
      const next = text[++at];
      if (next === undefined) return { problem: 'the command ends with a backslash' };
      word = (word ?? '') + escaped(next, quote);
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
  if (quote !== '') return { problem: `the command has an unfinished ${quote} quote` };
  if (word !== undefined) words.push(word);
  return words;
}

/** Inside double quotes a backslash protects only what would be special there (POSIX shell, section 2.2.3). */
function escaped(character: string, quote: string): string {
  return quote === '"' && !/["\\$`]/.test(character) ? `\\${character}` : character;
}
