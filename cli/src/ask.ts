import { createInterface } from 'node:readline/promises';
import { printable } from '@dstack-cloud/encoding';
import type { Context } from './context.ts';
import { CliError, EXIT } from './errors.ts';

/** Asks the person at the terminal, on stderr: stdout is for data. */
export async function ask(question: string, signal?: AbortSignal): Promise<string> {
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const asked =
      signal === undefined
        ? prompt.question(printable(question))
        : prompt.question(printable(question), { signal });
    return (await asked).trim();
  } finally {
    prompt.close();
  }
}

/** Asks before something is lost for good; a script must say `--yes`. Throws `refused`. */
export async function confirm(context: Context, question: string): Promise<void> {
  if (context.yes) return;
  if (context.interactive && /^y(es)?$/i.test(await ask(`${question} [y/N]: `, context.signal))) return;
  throw new CliError(
    'refused',
    context.interactive ? 'Nothing was changed' : `${question} Nobody was there to answer`,
    {
      exitCode: EXIT.refused,
      hint: 'Answer yes, or pass --yes',
    },
  );
}
