import { ENV_LIMITS, type EnvVar, interpolate, isEnvName } from '@dstack-cloud/app';
import { CliError } from '../errors.ts';

/** One `NAME=value` of the file, and where it stands in the text. */
export interface EnvEntry extends EnvVar {
  readonly line: number;
  /** From the name, or `export` before it, to the end of the value. */
  readonly start: number;
  readonly valueStart: number;
  readonly valueEnd: number;
}

export interface DotEnv {
  /** Each name once, in the order of first occurrence; the last value counts. */
  readonly vars: readonly EnvVar[];
  readonly entries: readonly EnvEntry[];
  readonly warnings: readonly string[];
}

/** White space within a line, as Go's `unicode.IsSpace` has it: Compose trims these. */
const BLANK = '\\t\\v\\f\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const GAP = new RegExp(`[${BLANK}\\n]*`, 'y');
const ASSIGNMENT = new RegExp(`(?:export[${BLANK}]+)?([^=\\n]*?)[${BLANK}]*=[${BLANK}]*`, 'y');
const TRAILING_BLANKS = new RegExp(`[${BLANK}]+$`);
const NOTHING_MORE = new RegExp(`[${BLANK}]*(?:#[^\\n]*)?(?=\\n|$)`, 'y');
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it looks for
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/;
/** What may be shown of a bad name: more could be part of a secret. */
const SHOWN_NAME = /^[A-Za-z0-9_.-]{1,40}$/;

/**
 * Reads `.env` as Docker Compose does: `export`, comments, values in double quotes (escapes, interpolation), in single
 * quotes (literal) and without (interpolation), quoted values over several lines, the last of equal names. Stricter
 * than Compose where that would guess or lose something: `NAME: value`, a name without a value, text after a closing
 * quote, and a `$NAME` that no earlier line of the file sets are errors, and the environment of this host is never read.
 * No message quotes a value.
 *
 * @throws CliError `bad_env` with the line and the form that is expected
 */
export function parseDotEnv(text: string, path: string): DotEnv {
  const reader = new Reader(text, path);
  const entries: EnvEntry[] = [];
  const values = new Map<string, string>();
  for (let entry = reader.next(values); entry !== undefined; entry = reader.next(values)) {
    entries.push(entry);
    if (entries.length > ENV_LIMITS.items) reader.tooMany(entry.line);
    values.set(entry.key, entry.value);
  }
  return {
    vars: [...values].map(([key, value]) => ({ key, value })),
    entries,
    warnings: [...duplicates(entries), ...reader.warnings],
  };
}

class Reader {
  readonly #text: string;
  readonly #path: string;
  readonly warnings: string[] = [];
  #at: number;
  #line = 1;
  #counted = 0;

  constructor(text: string, path: string) {
    this.#text = text;
    this.#path = path;
    this.#at = text.startsWith('\ufeff') ? 1 : 0;
  }

  /** The next assignment, or undefined at the end. */
  next(values: ReadonlyMap<string, string>): EnvEntry | undefined {
    this.#skipToStatement();
    if (this.#at === this.#text.length) return undefined;
    const start = this.#at;
    const line = this.#lineHere();
    const name = this.#name(line);
    const valueStart = this.#at;
    const quote = this.#text[valueStart];
    const value = quote === '"' || quote === "'" ? this.#quoted(quote, name, line) : this.#plain(name, line);
    const valueEnd = this.#at;
    if (quote === '"' || quote === "'") this.#endOfLine(name);
    else this.#at = endOfLine(this.#text, this.#at);
    const resolved = quote === "'" ? value : this.#interpolate(value, name, line, values);
    if (resolved.includes('\0')) this.#fail(line, `the value of ${name} holds a NUL character`);
    return { key: name, value: resolved, line, start, valueStart, valueEnd };
  }

  tooMany(line: number): never {
    return this.#fail(line, 'the file has too many variables', `at most ${ENV_LIMITS.items}`);
  }

  #skipToStatement(): void {
    for (;;) {
      GAP.lastIndex = this.#at;
      this.#at += GAP.exec(this.#text)?.[0].length ?? 0;
      if (this.#text[this.#at] !== '#') return;
      this.#at = endOfLine(this.#text, this.#at);
    }
  }

  #name(line: number): string {
    ASSIGNMENT.lastIndex = this.#at;
    const found = ASSIGNMENT.exec(this.#text);
    const before = this.#text.slice(this.#at, endOfLine(this.#text, this.#at));
    const name = found?.[1] ?? '';
    if (found !== null && isEnvName(name)) {
      this.#at += found[0].length;
      return name;
    }
    if (/^[[{]/.test(before)) return this.#fail(line, 'this looks like JSON');
    const colon = /^(?:export\s+)?([A-Za-z_][A-Za-z0-9_]{0,39})\s*:(?:\s|$)/.exec(before)?.[1];
    if (colon !== undefined) return this.#fail(line, `"${colon}:" is the form of YAML`, `${colon}=value`);
    if (found === null) return this.#fail(line, 'this line has no "=", and does not continue a quoted value');
    const shown = SHOWN_NAME.test(name) ? `"${name}"` : 'the text before "="';
    return this.#fail(
      line,
      `${shown} cannot be the name of a variable`,
      'NAME=value; a name has letters, digits and _, does not start with a digit, and has at most 255 characters',
    );
  }

  /** Up to the end of the line or a blank with `#`. */
  #plain(name: string, line: number): string {
    const rest = this.#text.slice(this.#at, endOfLine(this.#text, this.#at));
    const comment = rest.indexOf(' #');
    const value = (comment < 0 ? rest : rest.slice(0, comment)).replace(TRAILING_BLANKS, '');
    if (CONTROL.test(value))
      return this.#fail(
        line,
        `the value of ${name} holds a control character`,
        'such a value in double quotes, with escapes (\\n, \\r, \\t)',
      );
    if (value.startsWith('#'))
      this.warnings.push(`Line ${line}: the value of ${name} starts with "#"; that is no comment`);
    if (value.includes('\t#'))
      this.warnings.push(
        `Line ${line}: the value of ${name} holds "#" after a tab; only a blank before it starts a comment`,
      );
    this.#at += value.length;
    return value;
  }

  /** Up to the closing quote; a backslash before a quote of the same kind is dropped. */
  #quoted(quote: '"' | "'", name: string, line: number): string {
    let value = '';
    for (let at = this.#at + 1; at < this.#text.length; at += 1) {
      const character = this.#text[at] as string;
      if (character === quote) {
        this.#at = at + 1;
        return quote === '"' ? expandEscapes(value) : value;
      }
      if (character === '\\' && at + 1 < this.#text.length) {
        at += 1;
        value += this.#text[at] === quote ? quote : `\\${this.#text[at]}`;
      } else value += character;
    }
    return this.#fail(
      line,
      `the quote that opens the value of ${name} is never closed`,
      `NAME=${quote}value${quote}`,
    );
  }

  #endOfLine(name: string): void {
    NOTHING_MORE.lastIndex = this.#at;
    const rest = NOTHING_MORE.exec(this.#text);
    if (rest === null)
      this.#fail(
        this.#lineHere(),
        `there is text after the closing quote of ${name}`,
        'nothing, or a comment; a quote inside the value is written \\" or \\\'',
      );
    this.#at += rest?.[0].length ?? 0;
  }

  #interpolate(value: string, name: string, line: number, values: ReadonlyMap<string, string>): string {
    if (!value.includes('$')) return value;
    const literal = `$$ or single quotes for a dollar sign that is meant: ${name}='…'`;
    let missing = false;
    let result: string;
    try {
      result = interpolate(value, {
        variables: Object.fromEntries(values),
        onMissing: () => {
          missing = true;
        },
      });
    } catch {
      // The message of the cause quotes the value.
      return this.#fail(line, `the value of ${name} has a "$" form that is not known`, literal);
    }
    if (missing)
      this.#fail(
        line,
        `the value of ${name} names a variable that no earlier line of the file sets`,
        literal,
      );
    return result;
  }

  #lineHere(): number {
    for (; this.#counted < this.#at; this.#counted += 1)
      if (this.#text[this.#counted] === '\n') this.#line += 1;
    return this.#line;
  }

  #fail(line: number, problem: string, expected: string = 'NAME=value'): never {
    throw new CliError('bad_env', `${this.#path}:${line}: ${problem}`, {
      expected,
      hint: `Correct line ${line} of ${this.#path}`,
    });
  }
}

function endOfLine(text: string, at: number): number {
  const end = text.indexOf('\n', at);
  return end < 0 ? text.length : end;
}

const ESCAPE = /\\([abfnrtv$"\\]|0[0-7]{3})/g;
const CONTROLS = new Map([
  ['a', '\u0007'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
  ['v', '\v'],
  // Interpolation comes next and reads this as a dollar sign.
  ['$', '$$'],
]);

function expandEscapes(value: string): string {
  return value.replace(ESCAPE, (whole, form: string) => {
    if (!form.startsWith('0')) return CONTROLS.get(form) ?? form;
    const code = Number.parseInt(form.slice(1), 8);
    return code > 0xff ? whole : String.fromCodePoint(code);
  });
}

function duplicates(entries: readonly EnvEntry[]): string[] {
  const lines = new Map<string, number[]>();
  for (const { key, line } of entries) lines.set(key, [...(lines.get(key) ?? []), line]);
  return [...lines]
    .filter(([, found]) => found.length > 1)
    .map(([name, found]) => `${name} is set on lines ${found.join(', ')}; the last one counts`);
}
