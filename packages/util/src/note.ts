import { printable } from '@dstack-cloud/encoding';

/** Tells the user something beside the result, on standard error. */
export function note(line: string): void {
  process.stderr.write(`${printable(line)}\n`);
}
