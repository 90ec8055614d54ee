import { AppError } from './errors.ts';

/** Where values come from, and who is told about a variable without one. */
export interface InterpolationScope {
  readonly variables: Readonly<Record<string, string>>;
  readonly onMissing?: (name: string) => void;
}

const NAME = /[A-Za-z_][A-Za-z0-9_]*/y;
/** Nested defaults, `${A:-${B:-…}}`; deeper is refused. */
const MAX_DEPTH = 16;

/**
 * Compose interpolation of one text: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?error}`,
 * `${NAME?error}`, `${NAME:+other}`, `${NAME+other}`, and `$$` for a dollar sign. A missing variable is empty.
 *
 * @throws AppError `interpolation-invalid` for a bad form, or with the text of a `?` form without a value; the message may quote
 * the text, so it must not be shown where the text is a secret
 */
export function interpolate(text: string, scope: InterpolationScope): string {
  return expand(text, scope, 0);
}

function expand(text: string, scope: InterpolationScope, depth: number): string {
  if (depth > MAX_DEPTH) throw invalid('is nested too deeply', text);
  let result = '';
  let at = 0;
  while (at < text.length) {
    const dollar = text.indexOf('$', at);
    if (dollar < 0) return result + text.slice(at);
    result += text.slice(at, dollar);
    const next = text[dollar + 1];
    if (next === '$') {
      result += '$';
      at = dollar + 2;
    } else if (next === '{') {
      const end = closingBrace(text, dollar + 2);
      result += braced(text.slice(dollar + 2, end), scope, depth);
      at = end + 1;
    } else {
      const name = nameAt(text, dollar + 1);
      if (name === undefined)
        throw invalid('has a $ that starts no variable; write $$ for a dollar sign', text);
      result += lookup(name, scope) ?? missing(name, scope);
      at = dollar + 1 + name.length;
    }
  }
  return result;
}

function braced(body: string, scope: InterpolationScope, depth: number): string {
  const name = nameAt(body, 0);
  if (name === undefined) throw invalid('names no variable', `\${${body}}`);
  const rest = body.slice(name.length);
  if (rest === '') return lookup(name, scope) ?? missing(name, scope);
  const form = /^(:?)([-?+])/.exec(rest);
  if (form === null) throw invalid('has an unknown form', `\${${body}}`);
  const value = lookup(name, scope);
  // With the colon an empty value counts as none.
  const present = value !== undefined && !(form[1] === ':' && value === '');
  const word = rest.slice(form[0].length);
  if (form[2] === '+') return present ? expand(word, scope, depth + 1) : '';
  if (present) return value;
  if (form[2] === '-') return expand(word, scope, depth + 1);
  throw new AppError('interpolation-invalid', `Required variable ${name} is missing a value: ${word}`, {
    found: name,
  });
}

function closingBrace(text: string, start: number): number {
  let open = 1;
  for (let at = start; at < text.length; at++) {
    if (text.startsWith('${', at)) open++;
    else if (text[at] === '}' && --open === 0) return at;
  }
  throw invalid('has no closing brace', text);
}

function nameAt(text: string, at: number): string | undefined {
  NAME.lastIndex = at;
  return NAME.exec(text)?.[0];
}

function lookup(name: string, scope: InterpolationScope): string | undefined {
  return Object.hasOwn(scope.variables, name) ? scope.variables[name] : undefined;
}

function missing(name: string, scope: InterpolationScope): string {
  scope.onMissing?.(name);
  return '';
}

function invalid(problem: string, text: string): AppError {
  return new AppError('interpolation-invalid', `Interpolation ${problem}: ${text.slice(0, 80)}`);
}
