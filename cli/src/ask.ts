import { createInterface } from 'node:readline/promises';
import { printable } from '@dstack-cloud/encoding';

/** Asks the person at the terminal, on stderr: stdout is for data. */
export async function ask(question: string): Promise<string> {
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await prompt.question(printable(question))).trim();
  } finally {
    prompt.close();
  }
}
