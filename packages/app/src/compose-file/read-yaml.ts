import {
  Composer,
  type CST,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  type Node,
  type Pair,
  Parser,
  type Scalar,
  type YAMLMap,
} from 'yaml';
import { type ComposeEntry, type ComposeNode, listNode, mapNode } from './compose-node.ts';
import { type ComposeSource, quoted } from './compose-source.ts';

/** Bounds of one compose file; the largest that are known from practice have a tenth of each. */
const MAX_CHARACTERS = 1024 * 1024;
const MAX_TOKENS = 100_000;
const MAX_DEPTH = 32;
const MAX_DOCUMENTS = 16;
/** Characters and nodes with every alias written out: what counts is what a few lines grow to, not how many aliases. */
const MAX_EXPANDED = 4 * 1024 * 1024;
/** Members that merge keys copy. */
const MAX_MERGED = 200_000;

const CORE = 'tag:yaml.org,2002:';
const TAGS = new Set(['str', 'int', 'float', 'bool', 'null', 'map', 'seq'].map((name) => CORE + name));
/** YAML 1.2.2 section 10.3.2. */
const NULL = /^(?:|~|null|Null|NULL)$/;

/**
 * Reads the documents of a YAML text. Scalars stay text, aliases are shared, merge keys are merged; repeated keys,
 * unknown tags and whatever breaks a bound are refused with their place.
 *
 * @throws AppError `compose-file-invalid`
 */
export function readYaml(source: ComposeSource): ComposeNode[] {
  const found = Array.from(new Composer({ schema: 'failsafe', uniqueKeys: false }).compose(tokens(source)));
  if (found.length > MAX_DOCUMENTS) source.fail(0, `more than ${MAX_DOCUMENTS} documents`);
  for (const { errors } of found) {
    const [error] = errors;
    if (error !== undefined)
      source.fail(error.pos[0], `this is no YAML: ${error.message.split('\n')[0]}`, error);
  }
  return found.flatMap((document) => {
    const { contents } = document as Document;
    return contents === null ? [] : [new Converter(source).convert(contents as Node)];
  });
}

function tokens(source: ComposeSource): CST.Token[] {
  const { text } = source;
  if (text.length > MAX_CHARACTERS) source.fail(0, `more than ${MAX_CHARACTERS} characters`);
  const parser = new Parser();
  const result: CST.Token[] = [];
  let count = 0;
  for (const lexeme of new Lexer().lex(text)) {
    if (++count > MAX_TOKENS) source.fail(parser.offset, `more than ${MAX_TOKENS} YAML tokens`);
    result.push(...parser.next(lexeme));
  }
  result.push(...parser.end());
  boundDepth(result, source);
  return result;
}

/** Before anything is built by recursion. */
function boundDepth(roots: readonly CST.Token[], source: ComposeSource): void {
  const pending: (readonly [token: CST.Token, depth: number])[] = roots.map((token) => [token, 0]);
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [token, depth] = next;
    if (depth > MAX_DEPTH) source.fail(token.offset, `nested deeper than ${MAX_DEPTH} levels`);
    if (token.type === 'document' && token.value) pending.push([token.value, depth + 1]);
    if (!('items' in token)) continue;
    for (const { key, value } of token.items) {
      if (key) pending.push([key, depth + 1]);
      if (value) pending.push([value, depth + 1]);
    }
  }
}

class Converter {
  readonly #source: ComposeSource;
  /** `open` while the node itself is being read: an alias to it would never end. */
  readonly #anchors = new Map<string, ComposeNode | 'open'>();
  #merged = 0;

  constructor(source: ComposeSource) {
    this.#source = source;
  }

  convert(node: Node): ComposeNode {
    const at = node.range?.[0] ?? 0;
    if (isAlias(node)) return this.#aliased(node.source, at);
    const { anchor, tag } = node as { anchor?: string; tag?: string };
    if (tag !== undefined && !TAGS.has(tag)) this.#source.fail(at, `the tag ${quoted(tag)} is not known`);
    if (anchor !== undefined) this.#anchors.set(anchor, 'open');
    const result = this.#read(node, at);
    if (result.size > MAX_EXPANDED)
      this.#source.fail(at, `its aliases expand to more than ${MAX_EXPANDED} characters`);
    if (result.depth > MAX_DEPTH) this.#source.fail(at, `its aliases nest deeper than ${MAX_DEPTH} levels`);
    if (anchor !== undefined) this.#anchors.set(anchor, result);
    return result;
  }

  #aliased(name: string, at: number): ComposeNode {
    const found = this.#anchors.get(name);
    if (found === 'open') return this.#source.fail(at, `the alias *${name} stands inside what it names`);
    return found ?? this.#source.fail(at, `the alias *${name} names nothing that comes before it`);
  }

  #read(node: Node, at: number): ComposeNode {
    if (isScalar(node)) return scalar(node, at);
    if (isSeq<Node>(node))
      return listNode(
        node.items.map((item) => this.convert(item)),
        at,
      );
    if (isMap(node)) return this.#map(node as YAMLMap<Node, Node | null>, at);
    return this.#source.fail(at, 'this is no text, list or mapping');
  }

  #map(node: YAMLMap<Node, Node | null>, at: number): ComposeNode {
    const entries = new Map<string, ComposeEntry>();
    const merged: ComposeNode[] = [];
    let hasMerge = false;
    for (const pair of node.items) {
      const { key, at: keyAt, isMerge } = this.#key(pair, at);
      const value: ComposeNode = pair.value
        ? this.convert(pair.value)
        : { kind: 'scalar', text: null, plain: true, at: keyAt, size: 1, depth: 1 };
      const before = entries.get(key);
      if (before !== undefined || (isMerge && hasMerge)) {
        const first = before === undefined ? '' : ` (first on line ${this.#source.line(before.at)})`;
        this.#source.fail(keyAt, `${quoted(key)} is there twice${first}`);
      }
      if (isMerge) {
        hasMerge = true;
        merged.push(...(value.kind === 'list' ? value.items : [value]));
      } else entries.set(key, { at: keyAt, value });
    }
    for (const one of merged) this.#merge(entries, one);
    return mapNode(entries, at);
  }

  #key({ key: node }: Pair<Node, Node | null>, mapAt: number): { key: string; at: number; isMerge: boolean } {
    const key = this.convert(node);
    const at = node.range?.[0] ?? mapAt;
    if (key.kind !== 'scalar' || key.text === null)
      return this.#source.fail(at, 'the name of a member must be a text');
    return { key: key.text, at, isMerge: key.text === '<<' && key.plain };
  }

  /** Members that are there already win (the merge key of YAML 1.1). */
  #merge(entries: Map<string, ComposeEntry>, from: ComposeNode): void {
    if (from.kind !== 'map') this.#source.fail(from.at, '<< takes a mapping or a list of mappings');
    this.#merged += from.entries.size;
    if (this.#merged > MAX_MERGED)
      this.#source.fail(from.at, `merge keys copy more than ${MAX_MERGED} members`);
    for (const [key, entry] of from.entries) if (!entries.has(key)) entries.set(key, entry);
  }
}

function scalar(node: Scalar, at: number): ComposeNode {
  const text = typeof node.value === 'string' ? node.value : (node.source ?? '');
  const plain = node.type === 'PLAIN' && node.tag !== `${CORE}str`;
  const isNull = node.tag === `${CORE}null` || (plain && NULL.test(text));
  return { kind: 'scalar', text: isNull ? null : text, plain, at, size: 1 + text.length, depth: 1 };
}
