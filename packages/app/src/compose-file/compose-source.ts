import { AppError } from '../errors.ts';

/** Longest piece of a file's own text in a message. */
const MAX_QUOTED = 80;

/** The text of a compose file, for messages that name the place. */
export class ComposeSource {
  readonly file: string;
  readonly text: string;
  readonly #lineStarts: number[] = [0];

  constructor(text: string, file: string) {
    this.text = text;
    this.file = file;
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) this.#lineStarts.push(at + 1);
  }

  /** Number of the line that holds an offset, from 1. */
  line(at: number): number {
    let [low, high] = [0, this.#lineStarts.length];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if ((this.#lineStarts[middle] as number) <= at) low = middle;
      else high = middle;
    }
    return low + 1;
  }

  /** `docker-compose.yaml:12:5`. */
  place(at: number): string {
    const line = this.line(at);
    return `${this.file}:${line}:${at - (this.#lineStarts[line - 1] as number) + 1}`;
  }

  /** @throws AppError `compose-file-invalid` with the place */
  fail(at: number, problem: string, cause?: unknown): never {
    throw new AppError('compose-file-invalid', `${this.place(at)}: ${problem}`, { cause });
  }

  /** @throws AppError `compose-file-unsupported` with the place */
  unsupported(at: number, problem: string): never {
    throw new AppError('compose-file-unsupported', `${this.place(at)}: ${problem}`);
  }
}

/** A text of the file inside a message. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}…` : text);
}
