/** What a JSON text should be; what is not asked for is read over, and takes no memory. */
export type JsonShape =
  | { readonly kind: 'scalar' }
  | { readonly kind: 'list'; readonly item: JsonShape }
  /** Called when an object is there: messages may hold themselves. */
  | { readonly kind: 'message'; readonly members: () => ReadonlyMap<string, JsonShape> };

/**
 * A JSON value as it was written: numbers keep their text (uint64 must not pass through a double, `1.0` is no
 * integer), objects remember which names came twice, and each value knows where it ended for error texts.
 */
export type JsonNode = { readonly end: number } & (
  | { readonly kind: 'null' }
  | { readonly kind: 'boolean'; readonly value: boolean }
  | { readonly kind: 'number'; readonly text: string }
  | { readonly kind: 'string'; readonly text: string }
  | { readonly kind: 'array'; readonly items: readonly JsonNode[] }
  | JsonObjectNode
);

export type JsonObjectNode = {
  readonly kind: 'object';
  readonly end: number;
  readonly members: ReadonlyMap<string, JsonNode>;
  readonly repeated: ReadonlySet<string>;
};
