import { PrpcError } from '../errors.ts';
import type { JsonNode } from './json-node.ts';

/** Nesting of `a[b][c]=…` (docs/protocol/kms.md section 1.2). */
const MAX_DEPTH = 5;
const MAX_PAIRS = 1024;
const MAX_QUERY = 65_536;

type Tree = { children: Map<string, Tree>; pushed: number; text?: string };

/**
 * Reads a query string as nested fields: `a=1&b[c]=2&d[0]=x&e[]=y`. Every leaf is text; the decoder converts
 * it by the field's type. A name that comes twice is refused; `+` is a space, a broken `%` stays as written.
 * @throws PrpcError `bad_query`
 */
export function parseQuery(query: string): JsonNode {
  if (query.length > MAX_QUERY) throw new PrpcError('bad_query', 'query string is too long');
  const root: Tree = { children: new Map(), pushed: 0 };
  const pairs = query.split('&').filter((pair) => pair !== '');
  if (pairs.length > MAX_PAIRS) throw new PrpcError('bad_query', 'too many query fields');
  for (const pair of pairs) {
    const equals = pair.indexOf('=');
    const name = decodePart(equals < 0 ? pair : pair.slice(0, equals));
    insert(root, name, equals < 0 ? '' : decodePart(pair.slice(equals + 1)));
  }
  const members = new Map([...root.children].map(([key, child]) => [key, toNode(child)]));
  return { kind: 'object', members, repeated: new Set(), end: 0 };
}

function insert(root: Tree, name: string, text: string): void {
  const open = name.indexOf('[');
  const segments = [open < 0 ? name : name.slice(0, open)];
  if (open >= 0) {
    const rest = name.slice(open);
    if (!/^(\[[^[\]]*\])+$/.test(rest)) throw new PrpcError('bad_query', `Invalid field name: "${name}"`);
    segments.push(...rest.slice(1, -1).split(']['));
  }
  if (segments.length > MAX_DEPTH + 1) throw new PrpcError('bad_query', 'query fields are nested too deeply');
  let node = root;
  for (const segment of segments) {
    const key = segment === '' && node !== root ? String(node.pushed++) : segment;
    let child = node.children.get(key);
    if (child === undefined) {
      child = { children: new Map(), pushed: 0 };
      node.children.set(key, child);
    }
    node = child;
  }
  if (node.text !== undefined) throw new PrpcError('bad_query', `Multiple values for one key: "${name}"`);
  node.text = text;
}

function toNode(tree: Tree): JsonNode {
  if (tree.children.size === 0 && tree.text !== undefined) return { kind: 'string', text: tree.text, end: 0 };
  const keys = [...tree.children.keys()];
  if (keys.length > 0 && keys.every((key) => /^\d{1,4}$/.test(key))) {
    const items = keys.sort((a, b) => Number(a) - Number(b)).map((key) => toNode(tree.children.get(key)!));
    return { kind: 'array', items, end: 0 };
  }
  const members = new Map([...tree.children].map(([key, child]) => [key, toNode(child)]));
  return { kind: 'object', members, repeated: new Set(), end: 0 };
}

const decoder = new TextDecoder('utf-8', { fatal: true });

function decodePart(part: string): string {
  if (!part.includes('%') && !part.includes('+')) return part;
  const bytes: number[] = [];
  const raw = new TextEncoder().encode(part);
  for (let index = 0; index < raw.length; index++) {
    const byte = raw[index]!;
    const hex = byte === 0x25 ? String.fromCharCode(...raw.subarray(index + 1, index + 3)) : '';
    if (/^[0-9a-fA-F]{2}$/.test(hex)) {
      bytes.push(Number.parseInt(hex, 16));
      index += 2;
    } else {
      bytes.push(byte === 0x2b ? 0x20 : byte);
    }
  }
  try {
    return decoder.decode(Uint8Array.from(bytes));
  } catch {
    throw new PrpcError('bad_query', 'invalid utf-8 sequence in query');
  }
}
