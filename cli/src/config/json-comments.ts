import { CliError } from '../errors.ts';

/**
 * JSON with `//` and `/* *\/` comments (chapter 50 section 2.1): comments become blanks, so positions in error
 * messages stay right. Trailing commas stay errors.
 */
export function stripComments(text: string): string {
  const out: string[] = [];
  let i = 0;
  while (i < text.length) {
    const two = text.slice(i, i + 2);
    if (text[i] === '"') {
      const end = endOfString(text, i);
      out.push(text.slice(i, end));
      i = end;
    } else if (two === '//' || two === '/*') {
      const close = two === '//' ? text.indexOf('\n', i) : text.indexOf('*/', i + 2) + 2;
      const end = close < (two === '//' ? 0 : i + 2) ? text.length : close;
      out.push(text.slice(i, end).replace(/[^\n]/g, ' '));
      i = end;
    } else {
      out.push(text[i] as string);
      i += 1;
    }
  }
  return out.join('');
}

function endOfString(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i += 1) {
    if (text[i] === '\\') i += 1;
    else if (text[i] === '"') return i + 1;
  }
  return text.length;
}

/** Parses an object; the error names file, line and column. */
export function parseJsonObject(
  text: string,
  path: string,
  code: 'bad_config' | 'bad_app_json',
): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(stripComments(text.replace(/^\uFEFF/, '')));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new CliError(code, `${path}${position(text, message)} is no valid JSON: ${message}`, {
      hint: `Correct ${path}; comments are allowed, trailing commas are not`,
    });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new CliError(code, `${path} must hold one JSON object`, {
      hint: `Put the settings of ${path} in { }`,
    });
  return value as Record<string, unknown>;
}

function position(text: string, message: string): string {
  const offset = /position (\d+)/.exec(message)?.[1];
  if (offset === undefined) return '';
  const before = text.slice(0, Number(offset)).split('\n');
  return `:${before.length}:${(before.at(-1)?.length ?? 0) + 1}`;
}
