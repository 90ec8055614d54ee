import { ContractsError } from '@dstack-cloud/contracts';
import { runTask, type SigningChain, taskJson } from '@dstack-cloud/contracts/tasks';
import { printable } from '@dstack-cloud/encoding';
import { confirm } from '../ask.ts';
import { readAccount } from '../chain/connect.ts';
import { clientOf, otherUrls } from '../chain/other-endpoints.ts';
import { onceSender } from '../chain/send-once.ts';
import { withTimeLimit } from '../chain/time-limit.ts';
import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { wholeNumber } from '../whole-number.ts';

const RPC_TIMEOUT_MS = 20_000;
const TIMEOUT_HELP = `
  --timeout SECONDS    give the whole command up after so long (default: 900). Repeated, it sends nothing twice:
                       what was sent is in gov-sent.json of the folder`;

/**
 * `kms …`, `app …` and `info …` on the contracts: the tasks of `npx hardhat`, on the chain of the global configuration
 * unless `--network` names another.
 */
export async function runContractTask(
  given: Context,
  name: string,
  all: readonly string[],
): Promise<undefined> {
  const { words, timeout } = takeTimeout(all);
  return await withTimeLimit(given, timeout, (context) => runTaskOnce(context, name, words));
}

async function runTaskOnce(context: Context, name: string, words: readonly string[]): Promise<undefined> {
  const { chain } = await loadGlobalConfig(context);
  const namesNetwork = words.some((word) => /^--network(=|$)/.test(word));
  const configured = namesNetwork ? undefined : chain;
  let sender: ReturnType<typeof onceSender> | undefined;
  try {
    const answer = await runTask([name, ...words], {
      env: context.env,
      program: 'dstack-cloud',
      moreHelp: TIMEOUT_HELP,
      signal: context.signal,
      sender: async (chain, maxCost) => {
        const others = otherUrls(context.env['SECOND_RPC_URL']).map((url) =>
          clientOf(url, RPC_TIMEOUT_MS, context.signal),
        );
        sender = onceSender(context, { chain: chain as SigningChain, others, maxCost });
        return sender;
      },
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
    await sender?.done();
    if ('help' in answer) context.stdout(printable(`${answer.help}\n`, { max: 64 * 1024, keep: '\n\t' }));
    else context.result(JSON.parse(taskJson(answer.result)));
    return undefined;
  } catch (error) {
    if (!(error instanceof ContractsError) || error.code !== 'usage') throw error;
    throw usage(error.message);
  }
}

/** `--timeout` is of this program, and no task has it. */
function takeTimeout(all: readonly string[]): { words: string[]; timeout: number | undefined } {
  const words: string[] = [];
  let text: string | undefined;
  for (let index = 0; index < all.length; index += 1) {
    const word = all[index] as string;
    if (!/^--timeout(=|$)/.test(word)) {
      words.push(word);
      continue;
    }
    if (text !== undefined) throw usage('--timeout is given twice');
    text = word.includes('=') ? word.slice(word.indexOf('=') + 1) : all[++index];
    if (text === undefined) throw usage('--timeout needs a value');
  }
  return { words, timeout: wholeNumber('--timeout', text) };
}

function usage(message: string): CliError {
  return new CliError('usage', message, { exitCode: EXIT.usage });
}
