import { decodeCbor } from '@dstack-cloud/encoding';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';

/** Members of a CBOR map with text keys, read strictly: each once, and no other (docs/protocol/images.md section 3). */
export class CborDocument {
  readonly #what: string;
  readonly #members: Map<string, unknown>;

  constructor(value: unknown, what: string) {
    if (!(value instanceof Map)) throw new AttestationError('malformed', `${what} is no CBOR map`);
    for (const key of value.keys()) {
      if (typeof key !== 'string')
        throw new AttestationError('malformed', `${what} has a key that is no text`);
    }
    this.#what = what;
    this.#members = new Map(value as Map<string, unknown>);
  }

  static parse(bytes: Uint8Array, what: string): CborDocument {
    return new CborDocument(
      decoding(what, () => decodeCbor(bytes)),
      what,
    );
  }

  bytes(name: string, length?: number): Uint8Array {
    const value = this.#take(name);
    if (!(value instanceof Uint8Array) || (length !== undefined && value.length !== length)) {
      throw this.#malformed(name, length === undefined ? 'bytes' : `${length} bytes`);
    }
    return value;
  }

  text(name: string): string {
    const value = this.#take(name);
    if (typeof value !== 'string') throw this.#malformed(name, 'text');
    return value;
  }

  /** A number from 0 to 2^53 - 1. */
  number(name: string): number {
    const value = this.#take(name);
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
      throw this.#malformed(name, 'a number');
    return value;
  }

  map(name: string): CborDocument {
    return new CborDocument(this.#take(name), `${this.#what}.${name}`);
  }

  list(name: string, max: number): CborDocument[] {
    const value = this.#take(name);
    if (!Array.isArray(value) || value.length > max) throw this.#malformed(name, `a list of at most ${max}`);
    return value.map((item: unknown, i) => new CborDocument(item, `${this.#what}.${name}[${i}]`));
  }

  /** @throws AttestationError `unsupported` for another version */
  version(expected: number): void {
    const found = this.number('version');
    if (found !== expected) {
      throw new AttestationError('unsupported', `${this.#what} of another version`, {
        expected: String(expected),
        found: String(found),
      });
    }
  }

  /** As `version`, where the member may be missing. @throws AttestationError `unsupported` for another version */
  optionalVersion(expected: number): void {
    if (this.#members.has('version')) this.version(expected);
  }

  /** @throws AttestationError for members that nobody asked for */
  finish(): void {
    const [name] = this.#members.keys();
    if (name === undefined) return;
    throw new AttestationError(
      'malformed',
      `${this.#what} has an unknown member ${JSON.stringify(name.slice(0, 64))}`,
    );
  }

  #take(name: string): unknown {
    const value = this.#members.get(name);
    this.#members.delete(name);
    return value;
  }

  #malformed(name: string, expected: string): AttestationError {
    return new AttestationError('malformed', `${this.#what}.${name} is not ${expected}`);
  }
}
