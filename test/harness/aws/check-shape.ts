import { NormalizedSchema } from '@smithy/core/schema';

type Schema = Parameters<typeof NormalizedSchema.of>[0];

/** Index of the number of required members in a structure of AWS's model; they come first. */
const REQUIRED = 6;

/** Compares a JSON value with AWS's own model of it, as the SDK has it. @throws Error naming the member */
export function checkShape(schema: Schema, value: unknown, where: string): void {
  const model = NormalizedSchema.of(schema);
  const wrong = (expected: string): Error =>
    new Error(`${where}: must be ${expected}, found ${JSON.stringify(value)}`);
  if (model.isStructSchema()) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong('an object');
    const members = [...model.structIterator()];
    const required = Number((model.getSchema() as unknown as unknown[])[REQUIRED] ?? 0);
    for (const [name] of members.slice(0, required))
      if (!(name in value)) throw new Error(`${where}.${name}: missing`);
    for (const [name, one] of Object.entries(value)) {
      const member = members.find(([known]) => known === name)?.[1];
      if (member === undefined) throw new Error(`${where}.${name}: unknown member`);
      checkShape(member as Schema, one, `${where}.${name}`);
    }
  } else if (model.isListSchema()) {
    if (!Array.isArray(value)) throw wrong('a list');
    for (const [at, one] of value.entries())
      checkShape(model.getValueSchema() as Schema, one, `${where}[${at}]`);
  } else if (model.isMapSchema()) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong('a map');
    for (const [key, one] of Object.entries(value))
      checkShape(model.getValueSchema() as Schema, one, `${where}.${key}`);
  } else if (model.isStringSchema()) {
    if (typeof value !== 'string') throw wrong('text');
  } else if (model.isNumericSchema() || model.isTimestampSchema()) {
    if (typeof value !== 'number') throw wrong('a number');
  } else if (model.isBooleanSchema()) {
    if (typeof value !== 'boolean') throw wrong('true or false');
  }
}
