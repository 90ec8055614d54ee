import { fromHex } from '@dstack-cloud/encoding';
import { DstackError } from './errors.ts';

/** Members of an agent's answer, checked as they are read. */
export class Answer {
  readonly #method: string;
  readonly #members: Readonly<Record<string, unknown>>;

  constructor(method: string, value: unknown) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new DstackError('answer', `${method}: the answer is no object`, { method });
    this.#method = method;
    this.#members = value as Record<string, unknown>;
  }

  /** All of them, as they came. */
  get members(): Readonly<Record<string, unknown>> {
    return this.#members;
  }

  text(name: string): string {
    const value = this.#members[name];
    if (typeof value !== 'string') throw this.#wrong(name, 'no text');
    return value;
  }

  texts(name: string): string[] {
    const value = this.#members[name];
    if (!Array.isArray(value) || !value.every((item) => typeof item === 'string'))
      throw this.#wrong(name, 'no list of texts');
    return value as string[];
  }

  bytes(name: string): Uint8Array {
    return this.#bytes(name, this.text(name));
  }

  byteLists(name: string): Uint8Array[] {
    return this.texts(name).map((text) => this.#bytes(name, text));
  }

  flag(name: string): boolean {
    const value = this.#members[name];
    if (typeof value !== 'boolean') throw this.#wrong(name, 'neither true nor false');
    return value;
  }

  json<T>(name: string): T {
    try {
      return JSON.parse(this.text(name)) as T;
    } catch (cause) {
      if (cause instanceof DstackError) throw cause;
      throw this.#wrong(name, 'no JSON', cause);
    }
  }

  #bytes(name: string, text: string): Uint8Array {
    try {
      return fromHex(text.toLowerCase(), { prefix: 'allow' });
    } catch (cause) {
      throw this.#wrong(name, 'no hex', cause);
    }
  }

  #wrong(name: string, what: string, cause?: unknown): DstackError {
    const message = `${this.#method}: member ${name} of the answer is ${what}`;
    return new DstackError('answer', message, { method: this.#method, cause });
  }
}
