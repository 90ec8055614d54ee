import { printableJson } from '@dstack-cloud/encoding';

/** Where a command writes; tests give their own. */
export interface Output {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

/** Exit codes of the commands: both verdicts good, one bad, cannot judge; and a command line of no sense. */
export const EXIT = { good: 0, bad: 1, cannotJudge: 2, usage: 64 } as const;

export const processOutput: Output = {
  out: (text) => {
    process.stdout.write(text);
  },
  err: (text) => {
    process.stderr.write(text);
  },
};

/** A JSON document of a command's output. */
export function jsonText(value: unknown, indent?: number): string {
  return `${printableJson(JSON.stringify(value, undefined, indent))}\n`;
}
