import { PrpcError } from '../errors.ts';
import type { JsonNode, JsonObjectNode } from './json-node.ts';

/** Deeper nesting than any message needs; the original stops at 128 too. */
const MAX_DEPTH = 128;

/** Values in one text. Messages of ours have far fewer; ten megabytes of `[],` would stop the server for seconds. */
const MAX_VALUES = 65_536;

const numberPattern = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const spacePattern = /[ \t\n\r]*/y;
// RFC 8259 section 7: everything but the quote, the backslash and control characters stands for itself.
// biome-ignore lint/suspicious/noControlCharactersInRegex: the grammar excludes exactly these
const plainPattern = /[^"\\\u0000-\u001f]*/y;

/** " at line 1 column 20", counted in characters as read so far. */
export function position(text: string, offset: number): string {
  const before = text.slice(0, offset);
  const line = before.split('\n').length;
  return ` at line ${line} column ${offset - (before.lastIndexOf('\n') + 1)}`;
}

/**
 * Parses one JSON text strictly (RFC 8259): no byte order mark, nothing after the value, nesting at most 128, at most
 * 65,536 values.
 * @throws PrpcError `bad_json`
 */
export function parseJson(text: string): JsonNode {
  const parser = new Parser(text);
  const value = parser.value(0);
  parser.finish();
  return value;
}

class Parser {
  private readonly text: string;
  private offset = 0;
  private values = 0;

  constructor(text: string) {
    this.text = text;
  }

  value(depth: number): JsonNode {
    this.space();
    const first = this.text[this.offset];
    if (first === undefined) throw this.error('EOF while parsing a value', this.offset);
    if (depth > MAX_DEPTH) throw this.error('recursion limit exceeded', this.offset + 1);
    this.values += 1;
    if (this.values > MAX_VALUES) throw this.error('too many values', this.offset + 1);
    if (first === '{') return this.object(depth);
    if (first === '[') return this.array(depth);
    if (first === '"') return { kind: 'string', text: this.string(), end: this.offset };
    if (first === 't') return this.word('true', (end) => ({ kind: 'boolean', value: true, end }));
    if (first === 'f') return this.word('false', (end) => ({ kind: 'boolean', value: false, end }));
    if (first === 'n') return this.word('null', (end) => ({ kind: 'null', end }));
    if (first === '-' || (first >= '0' && first <= '9')) return this.number();
    throw this.error('expected value', this.offset + 1);
  }

  finish(): void {
    this.space();
    if (this.offset < this.text.length) throw this.error('trailing characters', this.offset + 1);
  }

  private object(depth: number): JsonObjectNode {
    const members = new Map<string, JsonNode>();
    const repeated = new Set<string>();
    this.offset += 1;
    this.space();
    if (this.text[this.offset] === '}') return this.close({ kind: 'object', members, repeated });
    for (;;) {
      this.space();
      if (this.text[this.offset] !== '"') throw this.unexpected('key must be a string', 'an object');
      const name = this.string();
      this.space();
      if (this.text[this.offset] !== ':') throw this.unexpected('expected `:`', 'an object');
      this.offset += 1;
      const value = this.value(depth + 1);
      if (members.has(name)) repeated.add(name);
      members.set(name, value);
      this.space();
      const next = this.text[this.offset];
      if (next === '}') return this.close({ kind: 'object', members, repeated });
      if (next !== ',') throw this.unexpected('expected `,` or `}`', 'an object');
      this.offset += 1;
    }
  }

  private array(depth: number): JsonNode {
    const items: JsonNode[] = [];
    this.offset += 1;
    this.space();
    if (this.text[this.offset] === ']') return this.close({ kind: 'array', items });
    for (;;) {
      items.push(this.value(depth + 1));
      this.space();
      const next = this.text[this.offset];
      if (next === ']') return this.close({ kind: 'array', items });
      if (next !== ',') throw this.unexpected('expected `,` or `]`', 'a list');
      this.offset += 1;
    }
  }

  private close<T extends object>(node: T): T & { end: number } {
    this.offset += 1;
    return { ...node, end: this.offset };
  }

  private string(): string {
    const { text } = this;
    const start = this.offset;
    let escaped = false;
    this.offset += 1;
    for (;;) {
      plainPattern.lastIndex = this.offset;
      plainPattern.exec(text);
      this.offset = plainPattern.lastIndex;
      const next = text[this.offset];
      if (next === '"') break;
      if (next === undefined) throw this.error('EOF while parsing a string', this.offset);
      if (next !== '\\') {
        throw this.error('control character (\\u0000-\\u001F) found while parsing a string', this.offset + 1);
      }
      escaped = true;
      this.offset += 2;
    }
    this.offset += 1;
    const raw = text.slice(start, this.offset);
    if (!escaped) return raw.slice(1, -1);
    return this.unescape(raw);
  }

  /** The escapes themselves are left to the runtime; a lone surrogate is refused, as it is no text. */
  private unescape(raw: string): string {
    try {
      const value = JSON.parse(raw) as string;
      if (!/\p{Surrogate}/u.test(value)) return value;
    } catch {
      throw this.error('invalid escape', this.offset);
    }
    throw this.error('lone leading surrogate in hex escape', this.offset);
  }

  private number(): JsonNode {
    numberPattern.lastIndex = this.offset;
    const match = numberPattern.exec(this.text);
    if (match === null) throw this.error('invalid number', this.offset + 1);
    this.offset += match[0].length;
    return { kind: 'number', text: match[0], end: this.offset };
  }

  private word(word: string, node: (end: number) => JsonNode): JsonNode {
    if (!this.text.startsWith(word, this.offset)) throw this.error('expected ident', this.offset + 2);
    this.offset += word.length;
    return node(this.offset);
  }

  private space(): void {
    const code = this.text.charCodeAt(this.offset);
    if (code > 0x20) return;
    spacePattern.lastIndex = this.offset;
    spacePattern.exec(this.text);
    this.offset = spacePattern.lastIndex;
  }

  private unexpected(message: string, inside: string): PrpcError {
    if (this.offset >= this.text.length) return this.error(`EOF while parsing ${inside}`, this.offset);
    return this.error(message, this.offset + 1);
  }

  private error(message: string, offset: number): PrpcError {
    return new PrpcError('bad_json', message + position(this.text, Math.min(offset, this.text.length)));
  }
}
