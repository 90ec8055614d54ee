import { APP_FLAGS_SLOT, dstackAppAbi, upgradesDisabledFrom } from '@dstack-cloud/contracts';
import { PolicyError } from '@dstack-cloud/policy';
import type { ChainSnapshot } from '@dstack-cloud/policy/following';
import { encodeFunctionData, type Hex } from 'viem';
import type { ChainReader } from '../chain/chain-reader.ts';
import type { AppFlags } from '../state/watch-state.ts';
import type { ModelKeeper } from './model-keeper.ts';

/** Apps that are asked at once. */
const MAX_ASKED = 64;
const ANY_DEVICE = encodeFunctionData({ abi: dstackAppAbi, functionName: 'allowAnyDevice' });

/**
 * Reads, once for each app, what its initializer set: that of the 0.6 line has no event for it. What changes later has one
 * in every line.
 */
export async function readAppFlags(
  reader: ChainReader,
  view: ChainSnapshot,
  keeper: ModelKeeper,
): Promise<void> {
  const unread = Object.entries(keeper.store.state.sources)
    .filter(([, { kind, flags, muted }]) => kind === 'app' && flags === undefined && muted === undefined)
    .map(([address]) => address as Hex);
  for (let start = 0; start < unread.length; start += MAX_ASKED) {
    const some = unread.slice(start, start + MAX_ASKED);
    const { finalized } = view;
    const read = await Promise.all([
      reader.calls(
        view,
        finalized,
        some.map((to) => ({ to, data: ANY_DEVICE })),
      ),
      reader.storage(
        view,
        finalized,
        some.map((address) => ({ address, slot: APP_FLAGS_SLOT })),
      ),
    ]).catch((error: unknown) => {
      // Endpoints that do not answer this must not keep the rest from being told; it is asked again with the next pass.
      if (error instanceof PolicyError) return undefined;
      throw error;
    });
    if (read === undefined) return;
    const [answers, words] = read;
    const found = new Map(some.map((address, index) => [address, flagsOf(answers[index], words[index]!)]));
    const { sources } = keeper.store.state;
    const changed = [...found].map(([address, flags]) => [address, { ...sources[address]!, flags }] as const);
    await keeper.tell({ sources: { ...sources, ...Object.fromEntries(changed) } }, []);
    // All events up to here are applied: this is what they add up to.
    for (const [address, flags] of found) Object.assign(keeper.model.app(address), flags);
  }
}

/** A contract of somebody's own, which has no such flag, has neither. */
function flagsOf(answer: Hex | undefined, word: Hex): AppFlags {
  const allowAnyDevice = answer !== undefined && /^0x0{63}1$/.test(answer);
  return { allowAnyDevice, upgradesDisabled: upgradesDisabledFrom(word, allowAnyDevice) ?? false };
}
