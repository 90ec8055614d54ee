import type { MsgpackView } from '@dstack-cloud/encoding';
import { AttestationError } from '../errors.ts';

const MAX_U32 = 0xffffffff;

/** Reads a MessagePack map field by field; every misfit is an error that names the place. */
export class MsgpackFields {
  readonly #members: ReadonlyMap<string, MsgpackView>;
  readonly #path: string;

  constructor(value: MsgpackView, path: string) {
    if (value.kind !== 'map') throw new AttestationError('malformed', `${path} is no map`);
    this.#members = value.members();
    this.#path = path;
  }

  /** Refuses members other than these. */
  only(...names: readonly string[]): this {
    for (const name of this.#members.keys()) {
      if (names.includes(name)) continue;
      throw new AttestationError('malformed', `${this.#path} has an unknown member`, { found: name });
    }
    return this;
  }

  /** Present and not nil. */
  has(name: string): boolean {
    const value = this.#members.get(name);
    return value !== undefined && value.kind !== 'nil';
  }

  /** A number from 0 to 2^32 - 1. */
  integer(name: string): number {
    const value = this.#get(name).integer();
    if (value !== undefined && value >= 0 && value <= MAX_U32) return value;
    throw this.#misfit(name, 'a 32-bit number');
  }

  text(name: string, maxBytes: number): string {
    const value = this.#get(name);
    if (value.kind !== 'text') throw this.#misfit(name, 'a string');
    if (value.length > maxBytes) throw this.#tooLong(name, maxBytes);
    return value.text();
  }

  /** Bytes in either form: bin, or an array of numbers from 0 to 255. */
  bytes(name: string, maxBytes: number): Uint8Array {
    return this.#toBytes(this.#get(name), name, maxBytes);
  }

  byteList(name: string, maxItems: number, maxBytes: number): Uint8Array[] {
    return Array.from(this.#items(name, maxItems), (item) => this.#toBytes(item, name, maxBytes));
  }

  object(name: string): MsgpackFields {
    return new MsgpackFields(this.#get(name), `${this.#path}.${name}`);
  }

  /** The maps of an array, each as `read` takes it. */
  objects<T>(name: string, maxItems: number, read: (fields: MsgpackFields) => T): T[] {
    return Array.from(this.#items(name, maxItems), (item, i) =>
      read(new MsgpackFields(item, `${this.#path}.${name}[${i}]`)),
    );
  }

  #items(name: string, maxItems: number): Iterable<MsgpackView> {
    const value = this.#get(name);
    if (value.kind !== 'array') throw this.#misfit(name, 'an array');
    if (value.length > maxItems) throw this.#tooLong(name, maxItems);
    return value.items();
  }

  #toBytes(value: MsgpackView, name: string, maxBytes: number): Uint8Array {
    if (value.kind !== 'bytes' && value.kind !== 'array') throw this.#misfit(name, 'bytes');
    if (value.length > maxBytes) throw this.#tooLong(name, maxBytes);
    if (value.kind === 'bytes') return value.bytes();
    const bytes = new Uint8Array(value.length);
    let offset = 0;
    for (const item of value.items()) {
      const byte = item.integer();
      if (byte === undefined || byte < 0 || byte > 255) throw this.#misfit(name, 'bytes');
      bytes[offset++] = byte;
    }
    return bytes;
  }

  #get(name: string): MsgpackView {
    const value = this.#members.get(name);
    if (value !== undefined) return value;
    throw new AttestationError('malformed', `${this.#path}.${name} is missing`);
  }

  #misfit(name: string, expected: string): AttestationError {
    return new AttestationError('malformed', `${this.#path}.${name} is not ${expected}`, { expected });
  }

  #tooLong(name: string, max: number): AttestationError {
    return new AttestationError('too-large', `${this.#path}.${name} is longer than ${max}`);
  }
}
