import { blockCall, blockFromAnswer } from './block.ts';
import type { ChainSettings } from './chain-options.ts';
import { type ChainView, readHead, reported } from './read-view.ts';
import type { RpcEndpoint } from './rpc-endpoint.ts';

/**
 * A view whose blocks come from a verifying light client alone (chapter 60 section 8.3): it has checked who signed
 * them, so nobody has to agree. What the other endpoints say must belong to these blocks; they have no say in which.
 * @throws PolicyError when the light client cannot be asked or is on another chain: there is nobody else to ask
 */
export async function readLightClientView(
  lightClient: RpcEndpoint,
  endpoints: readonly RpcEndpoint[],
  settings: ChainSettings,
): Promise<ChainView> {
  const { finality } = settings;
  const { chainId, block: head } = await readHead(lightClient, settings);
  if (finality === 'latest' || finality === 0) return { chainId, head, settled: head, endpoints };
  const tag =
    typeof finality === 'string'
      ? finality
      : head.number > BigInt(finality)
        ? head.number - BigInt(finality)
        : 0n;
  const settled = await reported(lightClient, settings, async () =>
    blockFromAnswer((await lightClient.batch([blockCall(tag)]))[0]),
  );
  return { chainId, head, settled, endpoints };
}
