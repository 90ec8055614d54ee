import type { Message } from '@bufbuild/protobuf';

/** What one answer shows in JSON beyond, or less than, its proto fields. */
export type JsonExtras = {
  /** Members appended after the fields; names of fields are not allowed. */
  readonly members?: Readonly<Record<string, unknown>>;
  /** Proto names of fields left out when they hold their default. */
  readonly omitDefaults?: readonly string[];
};

const extras = new WeakMap<Message, JsonExtras>();

/**
 * Marks a message so that its JSON form carries members that its binary form has not, as documented
 * interfaces want (`tee_variant` beside `attestation_mode`, `rtmr0` in GetQuote).
 */
export function withJsonExtras<T extends Message>(message: T, added: JsonExtras): T {
  extras.set(message, added);
  return message;
}

/** What withJsonExtras said about this message. */
export function jsonExtrasOf(message: Message): JsonExtras | undefined {
  return extras.get(message);
}
