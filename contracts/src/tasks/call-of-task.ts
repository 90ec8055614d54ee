import type { Address } from 'viem';
import { ContractsError } from '../errors.ts';
import { parseWords, valuesOf } from './parse-arguments.ts';
import { tasks } from './run-task.ts';
import type { TaskCall } from './task.ts';

/**
 * The call that a task would make, checked as the task checks it, for whoever sends it in another way.
 * @throws ContractsError `usage` for a task that makes no call, or does more than one
 */
export async function callOfTask(
  words: readonly string[],
  kms: Address,
  allowDebug: boolean,
): Promise<TaskCall> {
  const { task: name, named, bare } = parseWords(words, tasks);
  const task = name !== undefined && Object.hasOwn(tasks, name) ? tasks[name] : undefined;
  if (name === undefined || task === undefined) {
    throw new ContractsError('usage', `There is no action ${name ?? 'without a name'}`);
  }
  if (!('call' in task))
    throw new ContractsError('usage', `${name} is no single call: it cannot be proposed`);
  return await task.call(valuesOf(name, task, named, bare, allowDebug), { kms: () => kms });
}
