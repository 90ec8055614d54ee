import { printableJson, printableMessage } from '@dstack-cloud/encoding';
import { buildContracts } from '../build.ts';
import { ContractsError } from '../errors.ts';
import { runTask, type TaskSurroundings, taskJson } from './run-task.ts';

/** Where the program writes. */
export type HardhatOutput = { out(text: string): void; error(text: string): void };

/**
 * The task grammar of Hardhat, `[--network N] <task> [--flag] [--param V] [positional]`, without Hardhat.
 * @returns the exit code: 0, 1 for a failure, 2 for a command line that cannot be used
 */
export async function hardhat(
  words: readonly string[],
  surroundings: TaskSurroundings,
  output: HardhatOutput,
): Promise<number> {
  const wantsJson = words.includes('--json');
  try {
    // A value may be this word too: `kms:create-app --salt compile`.
    const task = words.find((word, index) => !word.startsWith('--') && words[index - 1] !== '--network');
    if (task === 'compile') {
      const { compiled } = await buildContracts();
      output.out(compiled ? 'Compiled the contracts\n' : 'Nothing to compile\n');
      return 0;
    }
    const answer = await runTask(words, surroundings);
    if ('help' in answer) output.out(`${answer.help}\n`);
    else if (answer.json) output.out(`${printableJson(taskJson(answer.result))}\n`);
    return 0;
  } catch (error) {
    const code = error instanceof ContractsError ? error.code : 'failed';
    const hint = error instanceof ContractsError ? error.hint : undefined;
    const message = error instanceof Error ? error.message : String(error);
    // A message may have the text of a contract that anybody may have written.
    if (wantsJson)
      output.out(`${printableJson(JSON.stringify({ error: { code, message, hint } }, null, 2))}\n`);
    else
      output.error(
        `Error: ${printableMessage(message)}\n${hint === undefined ? '' : `  Next: ${printableMessage(hint)}\n`}`,
      );
    return code === 'usage' ? 2 : 1;
  }
}
