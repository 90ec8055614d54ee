/** Applications to ask for: registered on the stack's chain, each with evidence and a certificate of its own. */
import type { Workload } from '../../harness/simulated-workload.ts';
import { identityOf, registeredWorkload, type Stack } from '../../harness/stack.ts';
import type { LoadIdentity } from './plan.ts';

/** Transactions under way at once; the account's nonces are handed out in order. */
const AT_ONCE = 16;

export type LoadedApp = { readonly identity: LoadIdentity; readonly workload: Workload };

/** About ten milliseconds each. */
export async function loadApps(stack: Stack, count: number): Promise<LoadedApp[]> {
  const apps: LoadedApp[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let app = next++; app < count; app = next++) {
      const workload = await registeredWorkload(stack, `bench ${app}`);
      apps[app] = { workload, identity: await identityOf(stack, workload) };
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return apps;
}
