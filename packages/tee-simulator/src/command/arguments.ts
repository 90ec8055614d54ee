import { type ParseArgsConfig, parseArgs } from 'node:util';
import { SimulatorError } from '../errors.ts';

/** Values of a command line whose options all take text, except the flags. */
export interface Arguments {
  text(name: string): string | undefined;
  required(name: string): string;
  integer(name: string): number | undefined;
  choice<T extends string>(name: string, values: readonly T[]): T | undefined;
  flag(name: string): boolean;
}

/** @throws SimulatorError `argument` for unknown options and positional arguments */
export function readArguments(
  argv: readonly string[],
  texts: readonly string[],
  flags: readonly string[],
): Arguments {
  const options: NonNullable<ParseArgsConfig['options']> = {
    ...Object.fromEntries(texts.map((name) => [name, { type: 'string' as const }])),
    ...Object.fromEntries(flags.map((name) => [name, { type: 'boolean' as const }])),
  };
  let values: Record<string, unknown>;
  try {
    values = parseArgs({ args: [...argv], options, allowPositionals: false }).values;
  } catch (cause) {
    throw new SimulatorError('argument', (cause as Error).message, { cause });
  }
  const text = (name: string) => values[name] as string | undefined;
  return {
    text,
    required(name) {
      const value = text(name);
      if (value === undefined) throw new SimulatorError('argument', `--${name} is missing; see --help`);
      return value;
    },
    integer(name) {
      const value = text(name);
      if (value === undefined) return undefined;
      if (!/^\d{1,15}$/.test(value)) throw new SimulatorError('argument', `--${name} wants a whole number`);
      return Number(value);
    },
    choice(name, allowed) {
      const value = text(name);
      if (value === undefined) return undefined;
      const known = allowed.find((candidate) => candidate === value);
      if (known === undefined) {
        throw new SimulatorError('argument', `--${name} is one of ${allowed.join(', ')}, not "${value}"`);
      }
      return known;
    },
    flag: (name) => values[name] === true,
  };
}
