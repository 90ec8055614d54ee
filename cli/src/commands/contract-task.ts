import { ContractsError } from '@dstack-cloud/contracts';
import { runTask, taskJson } from '@dstack-cloud/contracts/tasks';
import { printable } from '@dstack-cloud/encoding';
import { confirm } from '../ask.ts';
import { readAccount } from '../chain/connect.ts';
import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';

/**
 * `kms …`, `app …` and `info …` on the contracts: the tasks of `npx hardhat`, on the chain of the global configuration
 * unless `--network` names another.
 */
export async function runContractTask(
  context: Context,
  name: string,
  words: readonly string[],
): Promise<undefined> {
  const { chain } = await loadGlobalConfig(context);
  const namesNetwork = words.some((word) => /^--network(=|$)/.test(word));
  const configured = namesNetwork ? undefined : chain;
  try {
    const answer = await runTask([name, ...words], {
      env: context.env,
      program: 'dstack-cloud',
      terminal: {
        print: context.print,
        document: context.document,
        note: context.info,
        confirm: async (question) => {
          await confirm(context, question.replace(' (y/N)', ''));
          return true;
        },
      },
      ...(configured && {
        network: {
          name: 'the chain of the configuration',
          at: {
            rpcUrl: configured.rpc_url,
            ...(configured.chain_id !== undefined && { chainId: configured.chain_id }),
          },
        },
        kms: configured.kms_contract,
      }),
      ...(configured?.private_key_file !== undefined && {
        account: () => readAccount(context, configured),
      }),
    });
    if ('help' in answer) context.stdout(printable(`${answer.help}\n`, { max: 64 * 1024, keep: '\n\t' }));
    else context.result(JSON.parse(taskJson(answer.result)));
    return undefined;
  } catch (error) {
    if (!(error instanceof ContractsError) || error.code !== 'usage') throw error;
    throw new CliError('usage', error.message, { exitCode: EXIT.usage });
  }
}
