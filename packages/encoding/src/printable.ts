/**
 * What does something to the text around it instead of being seen: control characters and escape sequences,
 * bidirectional controls (UAX #9 section 2), invisible and unassigned characters, separators of lines, and marks piled
 * so high that they cover other lines (UTS #39 section 5.4).
 */
export const UNPRINTABLE: RegExp = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]|(?<=\p{M}{8})\p{M}/u;

const EVERY_UNPRINTABLE = new RegExp(UNPRINTABLE, 'gu');
const PLAIN = /^[\x20-\x7e]*$/;
const PLAIN_LINES = /^[\x20-\x7e\n]*$/;
/** Select Graphic Rendition (ECMA-48 section 8.3.117). */
// biome-ignore lint/suspicious/noControlCharactersInRegex: the sequence begins with one
const COLOURS = /\u001b\[[0-9;:]*m/g;
const MAX_LENGTH = 4096;
/** A log line above this is one with something large in it; its texts are cut. */
const MAX_LOG_LINE = 16_384;
const MAX_LOG_TEXT = 1024;

export interface PrintableOptions {
  /** Longest result, in UTF-16 units; the rest is cut off and `…` stands for it. */
  readonly max?: number;
  /** Which of line feed and tab stay. Without line feeds a foreign text cannot begin a line of its own. */
  readonly keep?: '\t' | '\n\t';
}

/**
 * Text of somebody else, fit for a terminal, a page or a log: what is not seen becomes `\n`, `\t` or `\u{202e}`, and the
 * length is bounded. Applying it twice changes nothing.
 */
export function printable(text: string, { max = MAX_LENGTH, keep }: PrintableOptions = {}): string {
  if (text.length <= max && PLAIN.test(text)) return text;
  const start = text.length <= max ? text : wholeCharacters(text.slice(0, max));
  const shown = start
    .replace(/\r+\n/g, '\n')
    .replace(EVERY_UNPRINTABLE, (character) => (keep?.includes(character) ? character : escaped(character)));
  if (shown.length <= max) return start.length === text.length ? shown : `${shown}…`;
  return `${wholeCharacters(shown.slice(0, max)).replace(/\\(u(\{[0-9a-f]*)?)?$/, '')}…`;
}

/** A line that a program printed, fit for a terminal or a log: without its colours, tabs as they are. */
export function printableLine(line: string, max: number = MAX_LENGTH): string {
  return printable(line.slice(0, max * 2).replace(COLOURS, ''), { max, keep: '\t' });
}

/** A message that may have several lines: those after the first are set off, so that none passes for a line of ours. */
export function printableMessage(text: string, indent = '  | '): string {
  return printable(text, { keep: '\n\t' }).replaceAll('\n', `\n${indent}`);
}

/** JSON text of the same value in which every character can be seen; only line feeds between the members stay. */
export function printableJson(json: string): string {
  if (PLAIN_LINES.test(json)) return json;
  return json.replace(EVERY_UNPRINTABLE, (character) =>
    character === '\n'
      ? character
      : Array.from({ length: character.length }, (_, i) => jsonEscape(character.charCodeAt(i))).join(''),
  );
}

/** Where a logger writes to. */
export interface LogDestination {
  write(line: string): unknown;
  flushSync?(): void;
}

/** A destination for a logger that writes JSON lines: they pass as `printableJson`, and the texts of a long one are cut. */
export function printableLog(destination: LogDestination): { write(line: string): void; flushSync(): void } {
  return {
    write: (line) => {
      destination.write(printableJson(line.length <= MAX_LOG_LINE ? line : shortened(line)));
    },
    flushSync: () => destination.flushSync?.(),
  };
}

function shortened(line: string): string {
  const cut = JSON.parse(line, (_, value: unknown) =>
    typeof value === 'string' && value.length > MAX_LOG_TEXT ? `${value.slice(0, MAX_LOG_TEXT)}…` : value,
  ) as Record<string, unknown>;
  const text = JSON.stringify(cut);
  if (text.length <= MAX_LOG_LINE) return `${text}\n`;
  const { level, time, msg } = cut;
  return `${JSON.stringify({ level, time, msg, cut: line.length })}\n`;
}

function escaped(character: string): string {
  if (character === '\n') return '\\n';
  if (character === '\r') return '\\r';
  if (character === '\t') return '\\t';
  return `\\u{${character.codePointAt(0)!.toString(16)}}`;
}

function jsonEscape(unit: number): string {
  return `\\u${unit.toString(16).padStart(4, '0')}`;
}

/** Without half a surrogate pair at the end. */
function wholeCharacters(text: string): string {
  return /[\ud800-\udbff]$/.test(text) ? text.slice(0, -1) : text;
}
