/** Applications to ask for: registered on the stack's chain, each with evidence and a certificate of its own. */
import { randomBytes } from 'node:crypto';
import { type ChainClient, connectChain } from '@dstack-cloud/contracts';
import type { Workload } from '../../harness/simulated-workload.ts';
import { identityOf, registeredWorkload, type Stack } from '../../harness/stack.ts';
import type { LoadIdentity } from './plan.ts';

/** Accounts that register at the same time. */
const AT_ONCE = 16;

export type LoadedApp = { readonly identity: LoadIdentity; readonly workload: Workload };

/** About ten milliseconds each. */
export async function loadApps(stack: Stack, count: number): Promise<LoadedApp[]> {
  const apps: LoadedApp[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    const client = await fundedAccount(stack);
    for (let app = next++; app < count; app = next++) {
      const workload = await registeredWorkload(stack, `bench ${app}`, client);
      apps[app] = { workload, identity: await identityOf(stack, workload) };
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return apps;
}

/**
 * An account of its own for each: of several transactions under way from one, anvil sometimes forgets that the one
 * before was mined, and then mines none of them any more.
 */
async function fundedAccount({ chain: { rpcUrl } }: Stack): Promise<ChainClient> {
  const client = await connectChain({ rpcUrl, privateKey: `0x${randomBytes(32).toString('hex')}` });
  const params = [client.account.address, '0x56bc75e2d63100000'];
  await client.public.request({ method: 'anvil_setBalance', params } as never);
  return client;
}
