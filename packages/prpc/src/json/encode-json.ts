import { type DescField, type DescMessage, type Message, ScalarType } from '@bufbuild/protobuf';
import { escapeNonAscii, toHex } from '@dstack-cloud/encoding';
import { EXTENSION_NUMBERS, fieldPresence } from './field.ts';
import { jsonExtrasOf } from './json-extras.ts';

type Values = Readonly<Record<string, unknown>>;
type WriteField = (values: Values) => string | undefined;
type Writer = (message: Message) => string;

const writers = new WeakMap<DescMessage, Writer>();

/**
 * The JSON form of a message (docs/protocol/kms.md section 1.3): proto names in declaration order, defaults written,
 * bytes as bare lower-case hex, 64-bit integers as numbers, unset optional fields as `null`, everything but
 * ASCII escaped. Fields numbered 100 and up are extensions of ours and appear only when set.
 */
export function encodeJson(desc: DescMessage, message: Message): string {
  return escapeIfNeeded(writerFor(desc)(message));
}

function escapeIfNeeded(text: string): string {
  return /[\u007f-\uffff]/.test(text) ? escapeNonAscii(text) : text;
}

/** Compiled on first use and kept: fields are walked once per message type, not once per message. */
function writerFor(desc: DescMessage): Writer {
  const known = writers.get(desc);
  if (known !== undefined) return known;
  const fields: { name: string; write: WriteField }[] = [];
  const writer: Writer = (message) => {
    const values = message as unknown as Values;
    const added = jsonExtrasOf(message);
    let text = '{';
    for (const { name, write } of fields) {
      const value = write(values);
      if (value === undefined || (added?.omitDefaults?.includes(name) && /^(""|0|false|\[\])$/.test(value))) {
        continue;
      }
      text += `${text === '{' ? '' : ','}"${name}":${value}`;
    }
    for (const [name, value] of Object.entries(added?.members ?? {})) {
      text += `${text === '{' ? '' : ','}${JSON.stringify(name)}:${JSON.stringify(value)}`;
    }
    return `${text}}`;
  };
  writers.set(desc, writer);
  for (const field of desc.fields) fields.push({ name: field.name, write: compileField(field) });
  return writer;
}

function compileField(field: DescField): WriteField {
  const name = field.localName;
  const presence = fieldPresence(field);
  const whenUnset = field.number >= EXTENSION_NUMBERS ? undefined : 'null';
  if (presence === 'repeated') {
    const writeItem = compileItem(field);
    return (values) => {
      const items = (values[name] ?? []) as readonly unknown[];
      if (items.length === 0 && whenUnset === undefined) return undefined;
      let text = '[';
      for (const item of items) text += (text === '[' ? '' : ',') + writeItem(item);
      return `${text}]`;
    };
  }
  const write = compileItem(field);
  return (values) => {
    const value = values[name];
    return value === undefined || value === null ? whenUnset : write(value);
  };
}

function compileItem(field: DescField): (value: unknown) => string {
  if (field.message !== undefined) {
    const writer = writerFor(field.message);
    return (value) => writer(value as Message);
  }
  switch (field.scalar) {
    case ScalarType.BYTES:
      return (value) => `"${toHex(value as Uint8Array)}"`;
    case ScalarType.STRING:
      return (value) => JSON.stringify(value);
    default:
      return (value) => String(value);
  }
}
