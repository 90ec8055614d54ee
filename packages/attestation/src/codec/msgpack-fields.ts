import { AttestationError } from '../errors.ts';

const MAX_U32 = 0xffffffff;

/** Reads a decoded MessagePack map field by field; every misfit is an error which names the place. */
export class MsgpackFields {
  readonly #map: Readonly<Record<string, unknown>>;
  readonly #path: string;

  constructor(value: unknown, path: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) {
      throw new AttestationError('malformed', `${path} is no map`);
    }
    this.#map = value as Record<string, unknown>;
    this.#path = path;
  }

  /** Refuses members other than these. */
  only(...names: readonly string[]): this {
    const unknown = Object.keys(this.#map).find((name) => !names.includes(name));
    if (unknown === undefined) return this;
    throw new AttestationError('malformed', `${this.#path} has an unknown member`, { found: unknown });
  }

  /** Present and not nil. */
  has(name: string): boolean {
    return Object.hasOwn(this.#map, name) && this.#map[name] !== null;
  }

  /** A number from 0 to 2^32 - 1. */
  integer(name: string): number {
    const value = this.#get(name);
    if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= MAX_U32) return value;
    throw this.#misfit(name, 'a 32-bit number');
  }

  text(name: string, maxBytes: number): string {
    const value = this.#get(name);
    if (typeof value !== 'string') throw this.#misfit(name, 'a string');
    if (value.length > maxBytes) throw this.#tooLong(name, maxBytes);
    return value;
  }

  /** Bytes in either form: bin, or an array of numbers from 0 to 255. */
  bytes(name: string, maxBytes: number): Uint8Array {
    return this.#toBytes(this.#get(name), name, maxBytes);
  }

  byteList(name: string, maxItems: number, maxBytes: number): Uint8Array[] {
    return this.#array(name, maxItems).map((item) => this.#toBytes(item, name, maxBytes));
  }

  object(name: string): MsgpackFields {
    return new MsgpackFields(this.#get(name), `${this.#path}.${name}`);
  }

  objects(name: string, maxItems: number): MsgpackFields[] {
    return this.#array(name, maxItems).map(
      (item, i) => new MsgpackFields(item, `${this.#path}.${name}[${i}]`),
    );
  }

  #array(name: string, maxItems: number): unknown[] {
    const value = this.#get(name);
    if (!Array.isArray(value)) throw this.#misfit(name, 'an array');
    if (value.length > maxItems) throw this.#tooLong(name, maxItems);
    return value;
  }

  #toBytes(value: unknown, name: string, maxBytes: number): Uint8Array {
    if (!(value instanceof Uint8Array) && !Array.isArray(value)) throw this.#misfit(name, 'bytes');
    if (value.length > maxBytes) throw this.#tooLong(name, maxBytes);
    if (value instanceof Uint8Array) return value;
    const items: unknown[] = value;
    if (items.every(isByte)) return Uint8Array.from(items);
    throw this.#misfit(name, 'bytes');
  }

  #get(name: string): unknown {
    if (Object.hasOwn(this.#map, name)) return this.#map[name];
    throw new AttestationError('malformed', `${this.#path}.${name} is missing`);
  }

  #misfit(name: string, expected: string): AttestationError {
    return new AttestationError('malformed', `${this.#path}.${name} is not ${expected}`, { expected });
  }

  #tooLong(name: string, max: number): AttestationError {
    return new AttestationError('too-large', `${this.#path}.${name} is longer than ${max}`);
  }
}

function isByte(item: unknown): item is number {
  return typeof item === 'number' && Number.isInteger(item) && item >= 0 && item <= 255;
}
