import { PrpcError } from '../errors.ts';
import type { JsonNode, JsonObjectNode, JsonShape } from './json-node.ts';

/** Bounds of one text. */
export const JSON_LIMITS = {
  /** Deeper nesting than any message needs; the original stops at 128 too. */
  depth: 128,
  /** Values that the message asks for. */
  values: 8_192,
  /** And those that nobody asks for; newer peers have a few. */
  unknownValues: 1_024,
  /** Names in one object that its message does not have. */
  unknownFields: 64,
  /** Items of a list; the longest, a page of the audit log, has a thousand. */
  items: 4_096,
} as const;

const numberPattern = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const spacePattern = /[ \t\n\r]*/y;
// RFC 8259 section 7: everything but the quote, the backslash and control characters stands for itself.
// biome-ignore lint/suspicious/noControlCharactersInRegex: the grammar excludes exactly these
const plainPattern = /[^"\\\u0000-\u001f]*/y;

/** " at line 1 column 20", counted in characters as read so far. */
export function position(text: string, offset: number): string {
  let line = 1;
  let start = 0;
  for (let index = 0; index < offset; index++) {
    if (text.charCodeAt(index) !== 0x0a) continue;
    line += 1;
    start = index + 1;
  }
  return ` at line ${line} column ${offset - start}`;
}

/**
 * Parses one JSON text strictly (RFC 8259): no byte order mark, nothing after the value, nesting at most 128, at most
 * 8,192 values that the shape asks for and 1,024 others. The others are there by their kind alone.
 * @throws PrpcError `bad_json`
 */
export function parseJson(text: string, shape?: JsonShape): JsonNode {
  const parser = new Parser(text);
  const value = parser.value(0, shape);
  parser.finish();
  return value;
}

class Parser {
  private readonly text: string;
  private offset = 0;
  private values = 0;
  private unknown = 0;

  constructor(text: string) {
    this.text = text;
  }

  value(depth: number, shape: JsonShape | undefined): JsonNode {
    this.space();
    const first = this.text[this.offset];
    if (first === undefined) throw this.error('EOF while parsing a value', this.offset);
    if (depth > JSON_LIMITS.depth) throw this.error('recursion limit exceeded', this.offset + 1);
    if (shape === undefined) this.unknown += 1;
    else this.values += 1;
    if (this.values > JSON_LIMITS.values || this.unknown > JSON_LIMITS.unknownValues) {
      throw this.error('too many values', this.offset + 1);
    }
    if (first === '{') return this.object(depth, shape?.kind === 'message' ? shape.members() : undefined);
    if (first === '[') return this.array(depth, shape?.kind === 'list' ? shape.item : undefined);
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

  private object(depth: number, wanted: ReadonlyMap<string, JsonShape> | undefined): JsonObjectNode {
    const members = new Map<string, JsonNode>();
    const repeated = new Set<string>();
    let unknown = 0;
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
      const shape = wanted?.get(name);
      if (wanted !== undefined && shape === undefined && ++unknown > JSON_LIMITS.unknownFields) {
        throw this.error('too many unknown fields', this.offset);
      }
      const value = this.value(depth + 1, shape);
      if (shape !== undefined) {
        if (members.has(name)) repeated.add(name);
        members.set(name, value);
      }
      this.space();
      const next = this.text[this.offset];
      if (next === '}') return this.close({ kind: 'object', members, repeated });
      if (next !== ',') throw this.unexpected('expected `,` or `}`', 'an object');
      this.offset += 1;
    }
  }

  private array(depth: number, shape: JsonShape | undefined): JsonNode {
    const items: JsonNode[] = [];
    this.offset += 1;
    this.space();
    if (this.text[this.offset] === ']') return this.close({ kind: 'array', items });
    for (;;) {
      const item = this.value(depth + 1, shape);
      if (shape !== undefined && items.push(item) > JSON_LIMITS.items) {
        throw this.error('too many items', this.offset);
      }
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
