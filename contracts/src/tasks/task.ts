import type { Abi, Address, Hex } from 'viem';
import type { TaskChain } from './connect-task.ts';
import type { Sender } from './sender.ts';
import type { TaskTerminal } from './terminal.ts';

/** One argument of a task. Names are written as on the command line: `app-id` is `--app-id`. */
export type TaskArgument = {
  readonly name: string;
  readonly kind:
    | 'address'
    | 'hash'
    | 'listed-hash'
    | 'flag'
    | 'text'
    | 'file'
    | 'boolean'
    | 'time'
    | 'seconds';
  readonly summary: string;
  /** `first` is given without a name, `either` in both ways. */
  readonly place?: 'first' | 'either';
  readonly optional?: true;
};

/** The same hash to take away, which may also be one that nobody should have allowed. */
export const listed = (argument: TaskArgument): TaskArgument => ({ ...argument, kind: 'listed-hash' });

/** Values by name: what was given, checked. */
export type TaskValues = Readonly<Record<string, string | boolean | undefined>>;

/** A call that changes a contract. */
export type TaskCall = {
  readonly to: Address;
  readonly abi: Abi;
  readonly functionName: string;
  readonly args: readonly unknown[];
};

/** What a task has to work with. */
export type TaskRun = {
  readonly chain: TaskChain;
  readonly terminal: TaskTerminal;
  readonly sender: Sender;
  readonly values: TaskValues;
  readonly dryRun: boolean;
  /** Who makes the calls in the end: the Timelock, the Safe, or the account. */
  caller(): Promise<Address>;
  /** Sends the call, or shows what would be sent. @returns what happened, for `--json` */
  submit(call: TaskCall): Promise<Submitted>;
};

/** What became of a call. */
export type Submitted = {
  readonly sent: boolean;
  readonly transactionHash?: Hex;
  readonly [key: string]: unknown;
};

type Common = { readonly summary: string; readonly arguments: readonly TaskArgument[] };

/** A task that makes one call. */
export type CallTask = Common & {
  readonly call: (values: TaskValues, chain: Pick<TaskChain, 'kms'>) => TaskCall | Promise<TaskCall>;
  /** Line after the call was included. */
  readonly done: string | ((values: TaskValues) => string);
};

/** A task that does more, or only reads. */
export type RunTask = Common & { readonly run: (run: TaskRun) => Promise<Record<string, unknown>> };

export type Task = CallTask | RunTask;
