import { nearestName } from '@dstack-cloud/encoding';
import type { Command, Option, Values } from './command.ts';
import { helpPage, optionForm, usageLine } from './help.ts';

/** What the arguments ask for. */
export type Parsed =
  | { readonly kind: 'run'; readonly command: Command; readonly values: Values }
  | { readonly kind: 'page'; readonly text: string; readonly isError: boolean };

const MORE = `For more information, try '--help'.\n`;

/** Reads arguments in the manner of the original's program; usage errors are its texts. */
export function parseArguments(root: Command, args: readonly string[], version: string): Parsed {
  return parseCommand(root, root.name, args, { version });
}

function parseCommand(
  command: Command,
  path: string,
  args: readonly string[],
  top: { readonly version: string } | undefined,
): Parsed {
  const page = (isError: boolean): Parsed => ({
    kind: 'page',
    text: helpPage(path, command, top !== undefined),
    isError,
  });
  if (command.commands === undefined) return parseOptions(command, path, args);
  const [first, ...rest] = args;
  if (first === undefined) return page(true);
  if (first === '-h' || first === '--help') return page(false);
  if (top !== undefined && (first === '-V' || first === '--version'))
    return { kind: 'page', text: `${command.name} ${top.version}\n`, isError: false };
  if (first === 'help') return helpOf(command, path, rest, top);
  const found = command.commands.find(({ name }) => name === first);
  return found === undefined
    ? unknownCommand(command, path, first)
    : parseCommand(found, `${path} ${found.name}`, rest, undefined);
}

function helpOf(
  command: Command,
  path: string,
  [name]: readonly string[],
  top: { readonly version: string } | undefined,
): Parsed {
  if (name === undefined)
    return { kind: 'page', text: helpPage(path, command, top !== undefined), isError: false };
  const found = command.commands?.find((one) => one.name === name);
  if (found === undefined) return unknownCommand(command, path, name);
  return { kind: 'page', text: helpPage(`${path} ${name}`, found), isError: false };
}

function unknownCommand(command: Command, path: string, name: string): Parsed {
  const isOption = name.startsWith('-');
  const near = nearestName(
    name,
    (command.commands ?? []).map((one) => one.name),
  );
  const tip = near === undefined || isOption ? '' : `\n  tip: a similar subcommand exists: '${near}'\n`;
  const what = isOption ? `unexpected argument '${name}' found` : `unrecognized subcommand '${name}'`;
  return failure(`${what}\n${tip}`, usageLine(path, command));
}

function parseOptions(command: Command, path: string, args: readonly string[]): Parsed {
  const values: Record<string, string | true> = {};
  const positional = command.options.filter(({ isPositional }) => isPositional);
  const unexpected = (found: string): Parsed =>
    failure(`unexpected argument '${found}' found\n`, errorUsage(path, command, values));
  const words = [...args];
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (word === '-h' || word === '--help')
      return { kind: 'page', text: helpPage(path, command), isError: false };
    if (!word.startsWith('-') || word === '-') {
      const next = positional.find(({ name }) => !(name in values));
      if (next === undefined) return unexpected(word);
      values[next.name] = word;
      continue;
    }
    const { option, attached } = findOption(command, word);
    if (option === undefined) return unexpected(word.replace(/=.*$/, ''));
    if (option.name in values)
      return failure(
        `the argument '${optionForm(option)}' cannot be used multiple times\n`,
        errorUsage(path, command, values),
      );
    if (option.value === undefined) {
      if (attached !== undefined) return unexpected(word);
      values[option.name] = true;
      continue;
    }
    const value = attached ?? words.shift();
    if (value === undefined)
      return {
        kind: 'page',
        text: `error: a value is required for '${optionForm(option)}' but none was supplied\n\n${MORE}`,
        isError: true,
      };
    if (attached === undefined && /^-./.test(value)) return unexpected(value);
    if (option.isNumber && !/^\d{1,9}$/.test(value))
      return {
        kind: 'page',
        text: `error: invalid value '${value}' for '${optionForm(option)}': invalid digit found in string\n\n${MORE}`,
        isError: true,
      };
    values[option.name] = value;
  }
  const missing = command.options.filter(
    ({ required, unless = '', name }) => required && !(name in values) && !(unless in values),
  );
  if (missing.length > 0) {
    const list = missing.map((option) => `  ${optionForm(option)}\n`).join('');
    return failure(
      `the following required arguments were not provided:\n${list}`,
      errorUsage(path, command, values),
    );
  }
  for (const { name, default: otherwise } of command.options)
    if (otherwise !== undefined) values[name] ??= otherwise;
  return { kind: 'run', command, values };
}

/** `--name VALUE`, `--name=VALUE`, `-n VALUE`, `-nVALUE`. */
function findOption(command: Command, word: string): { option?: Option; attached?: string } {
  const options = command.options.filter(({ isPositional }) => !isPositional);
  if (word.startsWith('--')) {
    const [name, ...value] = word.slice(2).split('=');
    const option = options.find((one) => one.name === name);
    return { ...(option && { option }), ...(value.length > 0 && { attached: value.join('=') }) };
  }
  const option = options.find(({ short }) => short === word[1]);
  const attached = word.slice(2).replace(/^=/, '');
  return { ...(option && { option }), ...(word.length > 2 && { attached }) };
}

/** Usage below an error: what is required and what was given. */
function errorUsage(path: string, command: Command, values: Values): string {
  const shown = command.options.filter((one) => one.required || (one.name in values && !one.isPositional));
  if (shown.length === 0) return usageLine(path, command);
  return [path, ...shown.map(optionForm), ...(command.trailing ? [command.trailing] : [])].join(' ');
}

function failure(text: string, usage: string): Parsed {
  return { kind: 'page', text: `error: ${text}\nUsage: ${usage}\n\n${MORE}`, isError: true };
}
