import { AppError } from './errors.ts';

/** A number written with a fraction or an exponent: `2.0` is not the integer 2 where one is wanted. */
export class JsonFloat {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}

/** What {@link parseStrictJson} returns; integers outside the safe range are bigint. */
export type StrictJson =
  | null
  | boolean
  | string
  | number
  | bigint
  | JsonFloat
  | StrictJson[]
  | { [key: string]: StrictJson };

const MAX_DEPTH = 64;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const SPACE = /[ \t\n\r]*/y;
const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;

/**
 * RFC 8259 JSON as the original's parser takes it: a repeated member, a byte-order mark, text after the value and
 * a lone surrogate are errors (`JSON.parse` accepts the first silently), and `2.0` stays apart from `2`.
 *
 * @param maxValues values at most, those within others too: a reader of strangers' texts stops there
 * @throws AppError `json-invalid`
 */
export function parseStrictJson(text: string, maxValues: number = Number.POSITIVE_INFINITY): StrictJson {
  const reader = new Reader(text, maxValues);
  const value = reader.value(0);
  reader.finish();
  return value;
}

class Reader {
  readonly #text: string;
  readonly #maxValues: number;
  #at = 0;
  #values = 0;

  constructor(text: string, maxValues: number) {
    this.#text = text;
    this.#maxValues = maxValues;
  }

  finish(): void {
    this.#space();
    if (this.#at !== this.#text.length) this.#fail('Trailing characters');
  }

  value(depth: number): StrictJson {
    if (depth > MAX_DEPTH) this.#fail(`Nested deeper than ${MAX_DEPTH} levels`);
    this.#values += 1;
    if (this.#values > this.#maxValues) this.#fail(`More than ${this.#maxValues} values`);
    this.#space();
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object(depth);
      case '[':
        return this.#array(depth);
      case '"':
        return this.#string();
      case 't':
        return this.#word('true', true);
      case 'f':
        return this.#word('false', false);
      case 'n':
        return this.#word('null', null);
      default:
        return this.#number();
    }
  }

  #object(depth: number): StrictJson {
    this.#at++;
    const members = new Map<string, StrictJson>();
    if (this.#take('}')) return {};
    do {
      this.#space();
      const key = this.#string();
      if (members.has(key)) this.#fail(`Repeated member ${JSON.stringify(key)}`);
      if (!this.#take(':')) this.#fail('Expected ":"');
      members.set(key, this.value(depth + 1));
    } while (this.#take(','));
    if (!this.#take('}')) this.#fail('Expected "," or "}"');
    return Object.fromEntries(members);
  }

  #array(depth: number): StrictJson {
    this.#at++;
    const items: StrictJson[] = [];
    if (this.#take(']')) return items;
    do items.push(this.value(depth + 1));
    while (this.#take(','));
    if (!this.#take(']')) this.#fail('Expected "," or "]"');
    return items;
  }

  #string(): string {
    const start = this.#at;
    if (this.#text[start] !== '"') return this.#fail('Expected a string');
    let end = start + 1;
    while (end < this.#text.length && this.#text[end] !== '"') end += this.#text[end] === '\\' ? 2 : 1;
    let value: string;
    try {
      // JSON.parse checks the escapes and control characters.
      value = JSON.parse(this.#text.slice(start, end + 1)) as string;
    } catch {
      return this.#fail('Bad string');
    }
    this.#at = end + 1;
    if (LONE_SURROGATE.test(value)) this.#fail('Lone surrogate in a string');
    return value;
  }

  #number(): number | bigint | JsonFloat {
    NUMBER.lastIndex = this.#at;
    const found = NUMBER.exec(this.#text);
    if (found === null) return this.#fail('Expected a value');
    this.#at += found[0].length;
    if (found[1] !== undefined || found[2] !== undefined) return new JsonFloat(Number(found[0]));
    const value = Number(found[0]);
    return Number.isSafeInteger(value) ? value : BigInt(found[0]);
  }

  #word<T>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) this.#fail('Expected a value');
    this.#at += word.length;
    return value;
  }

  #take(character: string): boolean {
    this.#space();
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #space(): void {
    SPACE.lastIndex = this.#at;
    this.#at += SPACE.exec(this.#text)?.[0].length ?? 0;
  }

  #fail(problem: string): never {
    const before = this.#text.slice(0, this.#at);
    const line = before.split('\n').length;
    const column = this.#at - before.lastIndexOf('\n');
    throw new AppError('json-invalid', `${problem} at line ${line} column ${column}`);
  }
}
