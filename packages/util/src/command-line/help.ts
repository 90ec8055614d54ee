import type { Command, Option } from './command.ts';

const HELP: Option = { name: 'help', short: 'h', help: 'Print help' };
const VERSION: Option = { name: 'version', short: 'V', help: 'Print version' };

/** `--name <VALUE>` as usage lines name it. */
export function optionForm({ name, value, isPositional }: Option): string {
  if (isPositional) return `[${value ?? name.toUpperCase()}]`;
  return value === undefined ? `--${name}` : `--${name} <${value}>`;
}

/** `dstack-util extend --event <EVENT> --payload <PAYLOAD>`. */
export function usageLine(path: string, command: Command): string {
  const optional = command.options.some((option) => !option.required && !option.isPositional);
  const parts = [
    ...(optional ? ['[OPTIONS]'] : []),
    ...command.options.filter(({ required }) => required).map(optionForm),
    ...command.options.filter(({ isPositional }) => isPositional).map(optionForm),
    ...(command.commands === undefined ? [] : ['<COMMAND>']),
    ...(command.trailing === undefined ? [] : [command.trailing]),
  ];
  return [path, ...parts].join(' ');
}

/** The page that `--help` prints. */
export function helpPage(path: string, command: Command, hasVersion = false): string {
  const sections = [`Usage: ${usageLine(path, command)}\n`];
  if (command.commands !== undefined) {
    const help = { name: 'help', about: 'Print this message or the help of the given subcommand(s)' };
    const rows = [...command.commands, help].map(({ name, about }) => [name, about] as const);
    sections.push(`Commands:\n${aligned(rows)}`);
  }
  const positional = command.options.filter(({ isPositional }) => isPositional);
  if (positional.length > 0)
    sections.push(`Arguments:\n${aligned(positional.map((one) => [optionForm(one), one.help ?? '']))}`);
  const options = [...command.options.filter(({ isPositional }) => !isPositional), HELP];
  if (hasVersion) options.push(VERSION);
  const rows = options.map((one) => [left(one), described(one)] as const);
  sections.push(
    `Options:\n${command.isWide ? rows.map(([form, help]) => `  ${form}\n          ${help}\n`).join('') : aligned(rows)}`,
  );
  if (command.examples !== undefined) sections.push(`Examples:\n${command.examples}`);
  return `${command.about === '' ? '' : `${command.about}\n\n`}${sections.join('\n')}`;
}

function left(option: Option): string {
  const short = option.short === undefined ? '    ' : `-${option.short}, `;
  return `${short}${optionForm(option)}`;
}

function described({ help = '', default: otherwise }: Option): string {
  return otherwise === undefined ? help : `${help}${help === '' ? '' : ' '}[default: ${otherwise}]`;
}

/** Descriptions in one column. */
function aligned(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `  ${name.padEnd(width)}  ${text}\n`).join('');
}
