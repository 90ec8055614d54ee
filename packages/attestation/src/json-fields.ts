import { EncodingError, fromHex } from '@dstack-cloud/encoding';
import { AttestationError } from './errors.ts';
import { type DerLabel, derForm } from './x509/der-form.ts';

/** Reads a parsed JSON object field by field; every misfit is an error which names the place. */
export class JsonFields {
  readonly #object: Readonly<Record<string, unknown>>;
  readonly #path: string;

  constructor(value: unknown, path: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new AttestationError('malformed', `${path} is no JSON object`);
    }
    this.#object = value as Record<string, unknown>;
    this.#path = path;
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#object, name) && this.#object[name] !== null;
  }

  text(name: string): string {
    const value = this.#get(name);
    if (typeof value !== 'string') throw this.#misfit(name, 'a string');
    return value;
  }

  /** A whole number from 0 to `max`. */
  integer(name: string, max: number = Number.MAX_SAFE_INTEGER): number {
    const value = this.#get(name);
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0 || value > max) {
      throw this.#misfit(name, `a whole number up to ${max}`);
    }
    return value;
  }

  /** Hex text, in either case; `length` is the exact number of bytes. */
  hex(name: string, length?: number): Uint8Array {
    try {
      return fromHex(this.text(name), length === undefined ? {} : { length });
    } catch (error) {
      if (!(error instanceof EncodingError)) throw error;
      throw this.#misfit(name, length === undefined ? 'hex' : `hex of ${length} bytes`);
    }
  }

  /** Text of one certificate or revocation list, in any form. */
  der(name: string, label: DerLabel): Uint8Array {
    const text = this.text(name);
    try {
      return derForm(text, label);
    } catch (cause) {
      if (!(cause instanceof AttestationError) || cause.code !== 'malformed') throw cause;
      throw new AttestationError('malformed', `${this.#path}.${name}: ${cause.message}`, {
        expected: cause.expected,
        found: cause.found,
        cause,
      });
    }
  }

  /** RFC 3339 time as Unix seconds. */
  time(name: string): number {
    const text = this.text(name);
    const seconds = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/.test(text)
      ? Date.parse(text) / 1000
      : Number.NaN;
    if (Number.isNaN(seconds)) throw this.#misfit(name, 'an RFC 3339 time');
    return seconds;
  }

  object(name: string): JsonFields {
    return new JsonFields(this.#get(name), `${this.#path}.${name}`);
  }

  /** The objects of an array of at most `max`; an absent array is empty. */
  objects(name: string, max: number): JsonFields[] {
    return this.#array(name, max).map((item, i) => new JsonFields(item, `${this.#path}.${name}[${i}]`));
  }

  /** The strings of an array of at most `max`; an absent array is empty. */
  texts(name: string, max: number): string[] {
    return this.#array(name, max).map((item) => {
      if (typeof item !== 'string') throw this.#misfit(name, 'an array of strings');
      return item;
    });
  }

  #array(name: string, max: number): unknown[] {
    if (!this.has(name)) return [];
    const value = this.#get(name);
    if (!Array.isArray(value)) throw this.#misfit(name, 'an array');
    if (value.length > max) throw this.#misfit(name, `an array of at most ${max}`);
    return value;
  }

  #get(name: string): unknown {
    if (!Object.hasOwn(this.#object, name)) {
      throw new AttestationError('malformed', `${this.#path}.${name} is missing`);
    }
    return this.#object[name];
  }

  #misfit(name: string, expected: string): AttestationError {
    return new AttestationError('malformed', `${this.#path}.${name} is not ${expected}`, { expected });
  }
}

/** Values in one text; the longest event log has half as many. Four megabytes of brackets take seconds to parse. */
const MAX_VALUES = 65_536;

/** Parses JSON text. @throws AttestationError `malformed`, `too-large` above `maxCharacters` or 65,536 values */
export function parseJson(text: string, what: string, maxCharacters: number): unknown {
  if (text.length > maxCharacters) {
    throw new AttestationError('too-large', `${what} exceeds ${maxCharacters} characters`);
  }
  if (beginnings(text) > MAX_VALUES) throw new AttestationError('too-large', `${what} has too many values`);
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new AttestationError('malformed', `${what} is not JSON`, { cause });
  }
}

/** How many values begin in a JSON text at most: each stands after a bracket or a comma. */
function beginnings(text: string): number {
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const character = text.charCodeAt(i);
    if (character === 0x2c || character === 0x5b || character === 0x7b) count++;
  }
  return count;
}
