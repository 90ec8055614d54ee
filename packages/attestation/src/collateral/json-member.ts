import { AttestationError } from '../errors.ts';

/**
 * The exact text of a member's value in a JSON object, as it stands: Intel signs this text, and parsing and
 * writing it again could change a byte (docs/protocol/verification.md section 2.1).
 * @throws AttestationError `malformed` when the text is no JSON object or has the member not exactly once
 */
export function jsonMemberText(json: string, name: string): string {
  checkJson(json);
  const scanner = new Scanner(json);
  let found: string | undefined;
  scanner.expect('{');
  while (!scanner.sees('}')) {
    const key = JSON.parse(scanner.value()) as unknown;
    scanner.expect(':');
    const value = scanner.value();
    if (key === name) {
      if (found !== undefined) throw new AttestationError('malformed', `The answer has ${name} twice`);
      found = value;
    }
    if (!scanner.sees('}')) scanner.expect(',');
  }
  if (found === undefined) throw new AttestationError('malformed', `The answer has no ${name}`);
  return found;
}

/** After this, the scanner needs to look at brackets and strings only. */
function checkJson(json: string): void {
  try {
    JSON.parse(json);
  } catch (cause) {
    throw new AttestationError('malformed', 'The answer is not JSON', { cause });
  }
}

class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  sees(character: string): boolean {
    this.#skipSpace();
    return this.#text[this.#at] === character;
  }

  expect(character: string): void {
    if (!this.sees(character)) {
      throw new AttestationError('malformed', `The answer is no JSON object: "${character}" expected`);
    }
    this.#at++;
  }

  /** The text of the next value. */
  value(): string {
    this.#skipSpace();
    const start = this.#at;
    let depth = 0;
    do {
      const character = this.#text[this.#at];
      if (character === undefined) break;
      if (character === '"') this.#skipString();
      else {
        if (character === '{' || character === '[') depth++;
        if (character === '}' || character === ']') depth--;
        this.#at++;
      }
    } while (depth > 0 || !this.#atEndOfValue());
    return this.#text.slice(start, this.#at);
  }

  #skipString(): void {
    this.#at++;
    while (this.#at < this.#text.length && this.#text[this.#at] !== '"') {
      this.#at += this.#text[this.#at] === '\\' ? 2 : 1;
    }
    this.#at++;
  }

  #atEndOfValue(): boolean {
    const character = this.#text[this.#at];
    return character === undefined || ',:}] \t\r\n'.includes(character);
  }

  #skipSpace(): void {
    while (' \t\r\n'.includes(this.#text[this.#at] ?? 'x')) this.#at++;
  }
}
