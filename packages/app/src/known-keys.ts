import type { z } from 'zod';

type SchemaNode = {
  readonly shape?: Record<PropertyKey, unknown>;
  readonly def?: { readonly innerType?: unknown };
};

/** The keys that the object at `path` of a schema may have; none where the schema has no object. */
export function knownKeys(schema: z.ZodType, path: readonly PropertyKey[]): readonly string[] {
  let node: unknown = schema;
  for (const name of path) node = shapeOf(node)[name];
  return Object.keys(shapeOf(node));
}

/** The fields of an object schema, below its defaults. */
function shapeOf(schema: unknown): Record<PropertyKey, unknown> {
  let node = schema as SchemaNode | undefined;
  while (node !== undefined && node.shape === undefined) node = node.def?.innerType as SchemaNode | undefined;
  return node?.shape ?? {};
}
