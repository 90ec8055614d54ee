import { type ParseArgsConfig, parseArgs } from 'node:util';
import { VerifierError } from '../errors.ts';

/** Options of `verify` and `bundle`, for node:util's parseArgs. */
export const EVIDENCE_OPTIONS = {
  at: { type: 'string' },
  collateral: { type: 'string', multiple: true },
  root: { type: 'string', multiple: true },
  'report-data': { type: 'string' },
  expect: { type: 'string', multiple: true },
  chain: { type: 'string', multiple: true },
  policy: { type: 'string' },
  'no-firmware-endorsement': { type: 'boolean' },
} as const;

type Options = NonNullable<ParseArgsConfig['options']>;
type Parsed<T extends Options> = ReturnType<
  typeof parseArgs<{ options: T; allowPositionals: true; tokens: true }>
>;

/**
 * `parseArgs`, but an option that counts once and is given twice is an error, not the last one.
 * @throws VerifierError `usage`, and the errors of parseArgs
 */
export function parseCommandLine<T extends Options>(argv: readonly string[], options: T): Parsed<T> {
  const parsed = parseArgs({ args: [...argv], allowPositionals: true, tokens: true, options }) as Parsed<T>;
  const seen = new Set<string>();
  for (const token of parsed.tokens as readonly { kind: string; name?: string }[]) {
    if (token.kind !== 'option' || token.name === undefined || options[token.name]?.multiple) continue;
    if (seen.has(token.name)) throw new VerifierError('usage', `--${token.name} is given twice`);
    seen.add(token.name);
  }
  return parsed;
}
