import { printable, printableMessage } from '@dstack-cloud/encoding';
import { errorChain } from '@dstack-cloud/runtime';
import { type Context, type Host, jsonText } from './context.ts';
import { EXIT } from './errors.ts';

interface Described {
  readonly code: string;
  readonly message: string;
  readonly expected: string | undefined;
  readonly found: string | undefined;
  readonly hint: string | undefined;
}

/** Prints an error in one shape: what failed, what was expected and found, what to do. Returns the exit code. */
export function reportError(
  error: unknown,
  host: Host,
  { json, verbose }: Pick<Context, 'json' | 'verbose'>,
): number {
  const described = describe(error);
  if (json) host.stdout(jsonText({ error: described }));
  host.stderr(text(described));
  if (verbose && error instanceof Error) host.stderr(`${printable(error.stack ?? '', { keep: '\n\t' })}\n`);
  const exitCode = (error as { exitCode?: unknown } | undefined)?.exitCode;
  return typeof exitCode === 'number' ? exitCode : EXIT.failure;
}

function describe(error: unknown): Described {
  const like = error as { code?: unknown; expected?: unknown; found?: unknown; hint?: unknown };
  const optional = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
  return {
    code: optional(like?.code) ?? 'failed',
    message: errorChain(error),
    expected: optional(like?.expected),
    found: optional(like?.found),
    hint: optional(like?.hint),
  };
}

function text(error: Described): string {
  const lines = [`Error: ${printableMessage(error.message)}`];
  if (error.expected !== undefined) lines.push(`  Expected: ${printableMessage(error.expected)}`);
  if (error.found !== undefined) lines.push(`  Found:    ${printableMessage(error.found)}`);
  if (error.hint !== undefined) lines.push(`  Next:     ${printableMessage(error.hint, '            ')}`);
  return `${lines.join('\n')}\n`;
}
