import { createInterface } from 'node:readline/promises';
import { printable, printableJson } from '@dstack-cloud/encoding';

/** Where a task prints and asks. */
export type TaskTerminal = {
  /** A line for people; silent with `--json`. */
  print(line: string): void;
  /** JSON for people and for other programs, after a label; whole, and silent with `--json`. */
  document(value: object, label?: string): void;
  /** A line beside the result: on standard error. */
  note(line: string): void;
  /** Whether the person answers `y` or `Y`. */
  confirm(question: string): Promise<boolean>;
};

/** The terminal of a process, or a pipe: `echo y | …` answers a question. */
export function processTerminal(options: { json: boolean; yes: boolean }): TaskTerminal {
  return {
    print: (line) => {
      if (!options.json) process.stdout.write(`${printableText(line)}\n`);
    },
    document: (value, label = '') => {
      if (!options.json) process.stdout.write(`${label}${printableJson(JSON.stringify(value, null, 2))}\n`);
    },
    note: (line) => void process.stderr.write(`${printableText(line)}\n`),
    async confirm(question) {
      if (options.yes) return true;
      process.stderr.write(`${printableText(question)} `);
      const lines = createInterface({ input: process.stdin });
      try {
        for await (const line of lines) return /^y$/i.test(line.trim());
        return false;
      } finally {
        lines.close();
      }
    },
  };
}

/** Reasons and names are texts of contracts that anybody may have written: none begins a line of its own. */
const printableText = (text: string): string => printable(text, { max: 256 * 1024, keep: '\t' });
