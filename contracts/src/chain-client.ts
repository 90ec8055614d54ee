import {
  type Chain,
  createPublicClient,
  createWalletClient,
  defineChain,
  type Hex,
  type HttpTransport,
  http,
  type PublicClient,
  type WalletClient,
} from 'viem';
import { nonceManager, type PrivateKeyAccount, privateKeyToAccount } from 'viem/accounts';

/** One chain seen through one endpoint, with the account that signs. */
export type ChainClient = {
  readonly rpcUrl: string;
  readonly chain: Chain;
  readonly account: PrivateKeyAccount;
  readonly public: PublicClient<HttpTransport, Chain>;
  readonly wallet: WalletClient<HttpTransport, Chain, PrivateKeyAccount>;
};

/** How to reach a chain and who signs. */
export type ConnectChainOptions = {
  rpcUrl: string;
  /** 32 bytes, 0x hex. */
  privateKey: Hex;
  /** How often to look for a receipt; default 50 ms, which suits a local chain. */
  pollingIntervalMs?: number;
  /** Time-out of one request; default 10 s. */
  timeoutMs?: number;
};

/** Ask the endpoint for its chain id and build the clients that deployment and management use. */
export async function connectChain(options: ConnectChainOptions): Promise<ChainClient> {
  const { rpcUrl, privateKey, pollingIntervalMs = 50, timeoutMs = 10_000 } = options;
  const transport = http(rpcUrl, { timeout: timeoutMs, retryCount: 1 });
  const id = await createPublicClient({ transport }).getChainId();
  const chain = defineChain({
    id,
    name: `chain ${id}`,
    nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
    rpcUrls: { default: { http: [rpcUrl] } },
  });
  const account = privateKeyToAccount(privateKey, { nonceManager });
  return {
    rpcUrl,
    chain,
    account,
    public: createPublicClient({ chain, transport, pollingInterval: pollingIntervalMs, cacheTime: 0 }),
    wallet: createWalletClient({ chain, transport, account, pollingInterval: pollingIntervalMs }),
  };
}
