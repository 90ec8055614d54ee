import { printable } from '@dstack-cloud/encoding';

/** What failed, outermost first; each cause is a sentence of its own under `Caused by:`. */
export class UtilError extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'UtilError';
  }
}

const MAX_CAUSES = 16;

/** The text of an error as the original's tools print it: `Error:`, then the causes, numbered when there are several. */
export function printableReport(error: unknown): string {
  const messages: string[] = [];
  for (let at: unknown = error; at !== undefined && at !== null && messages.length < MAX_CAUSES; ) {
    const text = printable(at instanceof Error ? messageOf(at) : String(at));
    // Many messages end with that of their cause.
    if (text !== '' && !messages.at(-1)?.endsWith(text)) messages.push(text);
    at = at instanceof Error ? at.cause : undefined;
  }
  const [outermost = 'unknown', ...causes] = messages;
  const list = causes.map((cause, index) =>
    causes.length === 1 ? `    ${cause}` : `    ${index}: ${cause}`,
  );
  return `Error: ${outermost}\n${list.length === 0 ? '' : `\nCaused by:\n${list.join('\n')}\n`}`;
}

/** An error with what its check expected and found. */
function messageOf(error: Error): string {
  const { expected, found } = error as { expected?: string; found?: string };
  const values = [...(expected ? [`expected ${expected}`] : []), ...(found ? [`found ${found}`] : [])].filter(
    (value) => !error.message.includes(value),
  );
  return values.length === 0 ? error.message : `${error.message} (${values.join(', ')})`;
}
