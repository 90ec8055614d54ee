import { PolicyError } from '../../errors.ts';
import type { ChainSettings } from '../chain-options.ts';
import { noQuorum } from '../rpc/quorum.ts';
import type { RpcEndpoint } from '../rpc/rpc-endpoint.ts';
import type { AskEndpoints } from './proven-state.ts';

/**
 * One honest endpoint is enough for what is proven: they are asked one after the other, the healthy ones first, until
 * an answer holds. One whose answer does not hold counts as failed.
 */
export function askEndpoints(
  endpoints: readonly RpcEndpoint[],
  { failures }: Pick<ChainSettings, 'failures'>,
): AskEndpoints {
  return async (ask) => {
    const inOrder = [...endpoints].sort((a, b) => Number(b.healthy) - Number(a.healthy));
    let last = noQuorum();
    for (const endpoint of inOrder) {
      try {
        return await ask(endpoint);
      } catch (error) {
        if (!(error instanceof PolicyError)) throw error;
        if (error.code === 'chain-proof' || error.code === 'chain-header') endpoint.noteFailure();
        failures.note(endpoint, error);
        last = error;
      }
    }
    throw last;
  };
}
