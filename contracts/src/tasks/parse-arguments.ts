import { ContractsError } from '../errors.ts';
import { addressValue, hashValue, listedHashValue, shown } from './hex-values.ts';
import type { Task, TaskArgument, TaskValues } from './task.ts';

/** Options that every task has. */
export type CommonOptions = {
  readonly network: string;
  readonly json: boolean;
  readonly dryRun: boolean;
  readonly announce: boolean;
  readonly yes: boolean;
  readonly allowDebug: boolean;
  readonly help: boolean;
  readonly safe?: string | undefined;
  readonly timelock?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly passwordFile?: string | undefined;
  readonly signerUrl?: string | undefined;
  readonly from?: string | undefined;
  /** In units of the chain's currency. */
  readonly maxCost?: string | undefined;
};

const commonFlags = new Set(['json', 'dry-run', 'yes', 'allow-debug', 'announce', 'help']);
const commonValues = new Set([
  'network',
  'safe',
  'timelock',
  'key-file',
  'password-file',
  'signer-url',
  'from',
  'max-cost',
]);

/** 9999-12-31T23:59:59Z. */
const LAST_SECOND = 253_402_300_799;

/** Words of a command line, taken apart: options of every task, the rest by name, and what has no name. */
export function parseWords(
  words: readonly string[],
  tasks: Readonly<Record<string, Task>>,
): { common: CommonOptions; task: string | undefined; named: Map<string, string | true>; bare: string[] } {
  const common = new Map<string, string | true>();
  const named = new Map<string, string | true>();
  const bare: string[] = [];
  let task: string | undefined;
  const put = (map: Map<string, string | true>, name: string, value: string | true): void => {
    if (map.has(name)) throw usage(`--${name} is given twice`);
    map.set(name, value);
  };
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] as string;
    if (word === '-h') {
      put(common, 'help', true);
      continue;
    }
    if (!word.startsWith('--')) {
      if (task === undefined) task = word;
      else bare.push(word);
      continue;
    }
    const equals = word.indexOf('=');
    const name = word.slice(2, equals < 0 ? undefined : equals);
    const argument = task === undefined ? undefined : argumentOf(tasks, task, name);
    const isFlag = commonFlags.has(name) || argument?.kind === 'flag' || argument?.kind === 'boolean';
    if (!isFlag && !commonValues.has(name) && argument === undefined) {
      throw usage(`${task ?? 'hardhat'} has no option --${name}`);
    }
    const target = commonFlags.has(name) || commonValues.has(name) ? common : named;
    if (isFlag) {
      if (equals >= 0) throw usage(`--${name} takes no value`);
      put(target, name, true);
      continue;
    }
    if (equals < 0) index += 1;
    const value = equals < 0 ? words[index] : word.slice(equals + 1);
    if (value === undefined || value === '') throw usage(`--${name} needs a value`);
    put(target, name, value);
  }
  const text = (name: string): string | undefined => common.get(name) as string | undefined;
  const flag = (name: string): boolean => common.get(name) === true;
  return {
    common: {
      network: text('network') ?? 'test',
      ...{ json: flag('json'), dryRun: flag('dry-run'), announce: flag('announce'), yes: flag('yes') },
      ...{ allowDebug: flag('allow-debug'), help: flag('help') },
      ...{ safe: text('safe'), timelock: text('timelock'), from: text('from') },
      ...{ keyFile: text('key-file'), passwordFile: text('password-file'), signerUrl: text('signer-url') },
      maxCost: text('max-cost'),
    },
    ...{ task, named, bare },
  };
}

function argumentOf(
  tasks: Readonly<Record<string, Task>>,
  task: string,
  name: string,
): TaskArgument | undefined {
  if (!Object.hasOwn(tasks, task)) return undefined;
  return tasks[task]?.arguments.find((argument) => argument.name === name && argument.place !== 'first');
}

/** The values of a task, checked. @throws ContractsError `usage`, `bad-argument` */
export function valuesOf(
  name: string,
  task: Task,
  named: ReadonlyMap<string, string | true>,
  bare: readonly string[],
  allowDebug: boolean,
): TaskValues {
  const left = [...bare];
  const values = task.arguments.map((argument): [string, string | boolean | undefined] => {
    const byName = named.get(argument.name);
    const given = byName ?? (argument.place === undefined ? undefined : left.shift());
    if (given === undefined && !argument.optional && argument.kind !== 'flag') {
      const how = argument.place === 'first' ? `<${argument.name}>` : `--${argument.name}`;
      throw usage(`${name} needs ${how}: ${argument.summary}`);
    }
    return [argument.name, given === undefined ? undefined : checked(argument, given, allowDebug)];
  });
  if (left.length > 0) throw usage(`${name} does not take ${shown(left[0] as string)}`);
  return Object.fromEntries(values);
}

function checked({ name, kind }: TaskArgument, given: string | true, allowDebug: boolean): string | boolean {
  if (given === true) return true;
  switch (kind) {
    case 'hash':
      return hashValue(name, given, allowDebug);
    case 'listed-hash':
      return listedHashValue(name, given);
    case 'address':
      return addressValue(name, given);
    case 'boolean':
      if (given === 'true' || given === 'false') return given === 'true';
      throw usage(`${name} is true or false, found ${shown(given)}`);
    case 'time': {
      const milliseconds = /^\d+$/.test(given) ? Number(given) * 1000 : Date.parse(given);
      const seconds = Math.floor(milliseconds / 1000);
      // To the contracts 0 is no end at all, and milliseconds for seconds would be none in effect.
      if (seconds > 0 && seconds <= LAST_SECOND) return String(seconds);
      throw usage(`${name} is a time such as 2027-01-31T00:00:00Z, or unix seconds, found ${shown(given)}`);
    }
    case 'seconds':
      if (/^\d{1,10}$/.test(given)) return given;
      throw usage(`${name} is a number of seconds, found ${shown(given)}`);
    default:
      return given;
  }
}

function usage(message: string): ContractsError {
  return new ContractsError('usage', message);
}
