/** Applications to ask for: registered on the stack's chain, each with evidence and a certificate of its own. */
import { identityOf, registeredWorkload, type Stack } from '../../harness/stack.ts';
import type { LoadIdentity } from './plan.ts';

/** Transactions under way at once; the account's nonces are handed out in order. */
const AT_ONCE = 16;

/** About ten milliseconds each. */
export async function loadApps(stack: Stack, count: number): Promise<LoadIdentity[]> {
  const identities: LoadIdentity[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let app = next++; app < count; app = next++) {
      identities[app] = await identityOf(stack, await registeredWorkload(stack, `bench ${app}`));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return identities;
}
