/** An option or argument of a command. */
export interface Option {
  /** Long name; the name of a positional argument. */
  readonly name: string;
  readonly short?: string;
  /** What its value is called; without it the option is a switch. */
  readonly value?: string;
  readonly help?: string;
  readonly required?: boolean;
  /** A switch with which it is not required after all. */
  readonly unless?: string;
  readonly default?: string;
  /** The value is a number that is not negative. */
  readonly isNumber?: boolean;
  readonly isPositional?: boolean;
}

/** Values as given, by the long name; switches have the value `true`. */
export type Values = Readonly<Record<string, string | true | undefined>>;

/** A command of the program. */
export interface Command {
  readonly name: string;
  /** What it does, in one line. */
  readonly about: string;
  readonly options: readonly Option[];
  /** Each description on a line of its own. */
  readonly isWide?: boolean;
  readonly commands?: readonly Command[];
  readonly examples?: string;
  /** What follows the options on usage lines, where the program reads it itself. */
  readonly trailing?: string;
  run?(values: Values): Promise<void>;
}

/** The value of an option that takes one. */
export function textOf(values: Values, name: string): string | undefined {
  const value = values[name];
  return typeof value === 'string' ? value : undefined;
}

/** The same of an option that is required or has a default. */
export function requiredText(values: Values, name: string): string {
  return textOf(values, name) ?? '';
}
