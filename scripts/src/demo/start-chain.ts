import { startAnvil } from '@dstack-cloud/contracts';
import type { Cleanup } from './cleanup.ts';
import type { Workspace } from './workspace.ts';

export interface Chain {
  readonly rpcUrl: string;
  readonly chainId: number;
  /** The owner of everything in the demo: anvil's first, publicly known account. */
  readonly ownerKey: `0x${string}`;
}

/** The key service refuses a chain that stands still, so blocks come without transactions too. */
const BLOCK_SECONDS = 5;

export async function startChain(space: Workspace, cleanup: Cleanup): Promise<Chain> {
  const anvil = await startAnvil({ blockTimeSeconds: BLOCK_SECONDS, cwd: space.directory });
  space.guard.watchProcess(anvil.pid);
  cleanup.add(async () => {
    space.guard.forget(anvil.pid);
    await anvil.stop();
  });
  const owner = anvil.accounts[0];
  if (owner === undefined) throw new Error('anvil made no account');
  return { rpcUrl: anvil.rpcUrl, chainId: anvil.chainId, ownerKey: owner.privateKey };
}
