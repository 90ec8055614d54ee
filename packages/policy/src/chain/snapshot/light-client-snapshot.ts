import type { ChainSettings } from '../chain-options.ts';
import type { RpcEndpoint } from '../rpc/rpc-endpoint.ts';
import { withFinalized } from './finalized-block.ts';
import { type ChainSnapshot, readHead } from './read-snapshot.ts';

/**
 * A snapshot whose blocks come from a verifying light client alone: it has checked who signed
 * them, so nobody has to agree. What the other endpoints say must belong to these blocks; they have no say in which.
 * @throws PolicyError when the light client cannot be asked or is on another chain: there is nobody else to ask
 */
export async function readLightClientSnapshot(
  lightClient: RpcEndpoint,
  endpoints: readonly RpcEndpoint[],
  settings: ChainSettings,
): Promise<ChainSnapshot> {
  const { block, chainId, finalized } = await withFinalized(
    async () => ({ ...(await readHead(lightClient, settings)), endpoints: [lightClient] }),
    // It alone is asked.
    { quorum: 1, finality: settings.finality },
  );
  return { chainId, head: block, finalized, endpoints };
}
