import { CliError } from './errors.ts';

/** A whole number of an option. @throws CliError `bad_argument` */
export function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new CliError('bad_argument', `${name} is a whole number`, { found: text });
}
