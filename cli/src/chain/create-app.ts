import type { Context } from '../context.ts';
import { changeAppId, type Project } from '../project/app-config.ts';
import { createApp, PendingTransaction } from './app-contract.ts';
import type { ChainConfig } from './connect.ts';

/**
 * Makes the contract of the project's app and writes its address to `app.json`: before the transaction is sent, so that no
 * contract is lost to a full disk or a killed process, and taken back when it fails.
 */
export async function createProjectApp(
  context: Context,
  project: Project,
  chain: ChainConfig,
  maxCost: bigint,
  composeHash: string | undefined,
): Promise<string> {
  const change = await changeAppId(project.path);
  let announced: string | undefined;
  let appId: string;
  try {
    appId = await createApp(context, chain, maxCost, composeHash, async (address) => {
      await change.write(address);
      announced = address;
    });
  } catch (error) {
    if (announced !== undefined && !(error instanceof PendingTransaction)) await change.undo();
    throw error;
  }
  // Somebody else's application came first and took the address.
  if (appId !== announced) await change.write(appId);
  return appId;
}
