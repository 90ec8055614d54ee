import { ScalarType } from '@bufbuild/protobuf';
import { fromHex } from '@dstack-cloud/encoding';
import type { JsonNode } from './json-node.ts';

/** `json`: as the servers take it; `query`: every leaf is text; `lenient`: integers may stand in quotes. */
export type Dialect = 'json' | 'query' | 'lenient';

/** `early`: found while reading the number itself, not while converting; error positions differ. */
type Result = { value: unknown } | { expected: string } | { problem: string; early?: true };

type Range = { name: string; min: bigint; max: bigint; big: boolean };

const ranges: Partial<Record<ScalarType, Range>> = {
  [ScalarType.UINT32]: { name: 'u32', min: 0n, max: 0xffff_ffffn, big: false },
  [ScalarType.UINT64]: { name: 'u64', min: 0n, max: 0xffff_ffff_ffff_ffffn, big: true },
  [ScalarType.INT32]: { name: 'i32', min: -0x8000_0000n, max: 0x7fff_ffffn, big: false },
  [ScalarType.INT64]: { name: 'i64', min: -(1n << 63n), max: (1n << 63n) - 1n, big: true },
};

/** Converts one JSON or query value to a scalar field's value. */
export function readScalar(scalar: ScalarType, node: JsonNode, dialect: Dialect): Result {
  if (scalar === ScalarType.STRING) {
    return node.kind === 'string' ? { value: node.text } : { expected: 'a string' };
  }
  if (scalar === ScalarType.BYTES) {
    return node.kind === 'string' ? readBytes(node.text) : { expected: 'a string' };
  }
  if (scalar === ScalarType.BOOL) return readBool(node, dialect);
  const range = ranges[scalar];
  return range === undefined ? { problem: 'unsupported field type' } : readInteger(range, node, dialect);
}

/** Any number of leading `0x`, either case; ours also takes `0X` (docs/protocol/kms.md section 1.3). */
function readBytes(text: string): Result {
  let start = 0;
  while (text[start] === '0' && (text[start + 1] === 'x' || text[start + 1] === 'X')) start += 2;
  const digits = text.slice(start);
  const bad = digits.search(/[^0-9a-fA-F]/);
  if (digits.length % 2 !== 0) return { problem: 'Odd number of digits' };
  if (bad >= 0)
    return {
      problem: `Invalid character '${String.fromCodePoint(digits.codePointAt(bad)!)}' at position ${bad}`,
    };
  return { value: fromHex(digits) };
}

function readBool(node: JsonNode, dialect: Dialect): Result {
  if (node.kind === 'boolean') return { value: node.value };
  if (dialect === 'query' && node.kind === 'string') {
    if (node.text === 'true' || node.text === 'false') return { value: node.text === 'true' };
    return { problem: 'provided string was not `true` or `false`' };
  }
  return { expected: 'a boolean' };
}

function readInteger(range: Range, node: JsonNode, dialect: Dialect): Result {
  const quoted = node.kind === 'string' && dialect !== 'json';
  if (node.kind !== 'number' && !quoted) return { expected: range.name };
  if (!/^-?\d{1,20}$/.test(node.text)) {
    return quoted ? { problem: 'invalid digit found in string' } : { expected: range.name };
  }
  const value = BigInt(node.text);
  if (value < range.min || value > range.max) {
    return { problem: `invalid value: integer \`${node.text}\`, expected ${range.name}`, early: true };
  }
  return { value: range.big ? value : Number(value) };
}

/** A value as error texts name it: `string "x"`, `integer `1``, `null`. */
export function describeNode(node: JsonNode): string {
  if (node.kind === 'string') return `string ${JSON.stringify(node.text.slice(0, 100))}`;
  if (node.kind === 'number') {
    const text = node.text.slice(0, 100);
    return /^-?\d+$/.test(node.text) ? `integer \`${text}\`` : `floating point \`${text}\``;
  }
  if (node.kind === 'boolean') return `boolean \`${node.value}\``;
  if (node.kind === 'array') return 'sequence';
  return node.kind === 'object' ? 'map' : 'null';
}
