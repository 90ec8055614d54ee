import {
  create,
  type DescField,
  type DescMessage,
  type Message,
  type MessageShape,
  ScalarType,
} from '@bufbuild/protobuf';
import { PrpcError } from '../errors.ts';
import { fieldPresence } from './field.ts';
import type { JsonNode, JsonShape } from './json-node.ts';
import { parseJson, position } from './parse-json.ts';
import { parseQuery } from './parse-query.ts';
import { type Dialect, describeNode, readScalar } from './read-scalar.ts';

type Source = { readonly text: string; readonly dialect: Dialect };
type ReadField = (node: JsonNode, source: Source) => unknown;
type Field = { name: string; localName: string; read: ReadField };

const compiled = new WeakMap<DescMessage, Field[]>();
const shapes = new WeakMap<DescMessage, ReadonlyMap<string, JsonShape>>();
const SCALAR: JsonShape = { kind: 'scalar' };

/**
 * Reads the JSON form of a message. Missing fields take their defaults, unknown ones are ignored, a field that
 * comes twice is refused. An empty text means "all defaults".
 * @param options.lenientNumbers also takes integers in quotes, as a client of foreign servers should
 * @throws PrpcError `bad_json`
 */
export function decodeJson<D extends DescMessage>(
  desc: D,
  text: string,
  options: { lenientNumbers?: boolean } = {},
): MessageShape<D> {
  if (text === '') return create(desc);
  const dialect = options.lenientNumbers === true ? 'lenient' : 'json';
  return readMessage(desc, parseJson(text, shapeOf(desc)), { text, dialect }) as MessageShape<D>;
}

/**
 * Reads a query string (`app_id=0x11&names[]=a&nested[field]=1`) as a message, by the same rules.
 * @throws PrpcError `bad_query`
 */
export function decodeQuery<D extends DescMessage>(desc: D, query: string): MessageShape<D> {
  return readMessage(desc, parseQuery(query), { text: '', dialect: 'query' }) as MessageShape<D>;
}

function readMessage(desc: DescMessage, node: JsonNode, source: Source): Message {
  if (node.kind !== 'object') throw wrongType(node, `struct ${desc.name}`, source);
  const message = create(desc);
  const target = message as unknown as Record<string, unknown>;
  for (const { name, localName, read } of fieldsOf(desc)) {
    const value = node.members.get(name);
    if (value === undefined) continue;
    if (node.repeated.has(name)) throw failure(`duplicate field \`${name}\``, value, source);
    const result = read(value, source);
    if (result !== undefined) target[localName] = result;
  }
  return message;
}

function shapeOf(desc: DescMessage): JsonShape {
  return {
    kind: 'message',
    members: () => {
      const known = shapes.get(desc);
      if (known !== undefined) return known;
      const members = new Map(desc.fields.map((field) => [field.name, fieldShape(field)]));
      shapes.set(desc, members);
      return members;
    },
  };
}

function fieldShape(field: DescField): JsonShape {
  const item = field.message === undefined ? SCALAR : shapeOf(field.message);
  return fieldPresence(field) === 'repeated' ? { kind: 'list', item } : item;
}

function fieldsOf(desc: DescMessage): Field[] {
  const known = compiled.get(desc);
  if (known !== undefined) return known;
  const fields: Field[] = [];
  compiled.set(desc, fields);
  for (const field of desc.fields) {
    fields.push({ name: field.name, localName: field.localName, read: compileField(field) });
  }
  return fields;
}

function compileField(field: DescField): ReadField {
  const presence = fieldPresence(field);
  const readItem = compileItem(field);
  if (presence === 'implicit') return readItem;
  if (presence === 'optional') {
    return (node, source) => {
      const emptyNumber = source.dialect === 'query' && node.kind === 'string' && node.text === '';
      const textual = field.scalar === ScalarType.STRING || field.scalar === ScalarType.BYTES;
      if (node.kind === 'null' || (emptyNumber && !textual)) return undefined;
      return readItem(node, source);
    };
  }
  return (node, source) => {
    if (node.kind !== 'array') throw wrongType(node, 'a sequence', source);
    return node.items.map((item) => readItem(item, source));
  };
}

function compileItem(field: DescField): ReadField {
  const { message, scalar } = field;
  if (message !== undefined) return (node, source) => readMessage(message, node, source);
  return (node, source) => {
    const result = readScalar(scalar ?? ScalarType.STRING, node, source.dialect);
    if ('value' in result) return result.value;
    if ('expected' in result) throw wrongType(node, result.expected, source);
    throw failure(result.problem, node, source, result.early !== true);
  };
}

function wrongType(node: JsonNode, expected: string, source: Source): PrpcError {
  return failure(`invalid type: ${describeNode(node)}, expected ${expected}`, node, source);
}

/** `late`: found while converting; the original then stands behind a closing brace that it has read. */
function failure(problem: string, node: JsonNode, source: Source, late = false): PrpcError {
  if (source.dialect === 'query') return new PrpcError('bad_query', problem);
  let offset = node.end;
  if (late) {
    while (/\s/.test(source.text[offset] ?? '')) offset += 1;
    if (source.text[offset] === '}') offset += 1;
  }
  return new PrpcError('bad_json', problem + position(source.text, offset));
}
