import {
  type Address,
  type Chain,
  createPublicClient,
  defineChain,
  type HttpTransport,
  type LocalAccount,
  type PublicClient,
} from 'viem';
import { ContractsError } from '../errors.ts';
import type { Network } from './networks.ts';
import { rpcTransport } from './rpc-transport.ts';

/** A chain for one task. Contract and signer are looked for when they are needed. */
export type TaskChain = {
  readonly network: string;
  readonly chain: Chain;
  readonly public: PublicClient<HttpTransport, Chain>;
  /** Address of DstackKms. @throws ContractsError when it is not set */
  kms(): Address;
  /** @throws ContractsError when nothing can be signed */
  signer(): Promise<{ account: LocalAccount }>;
};

/** What signing and sending takes. */
export type SigningChain = {
  readonly chain: Chain;
  readonly public: PublicClient;
  signer(): Promise<{ account: LocalAccount }>;
};

/** @throws ContractsError `chain-unreachable`, or `chain-mismatch` when it is another chain than its name says */
export async function connectTask(options: {
  name: string;
  network: Network;
  kms: () => Address;
  account: () => Promise<LocalAccount>;
  /** For one exchange; it is tried twice. */
  timeoutMs?: number;
  /** Ends everything. */
  signal?: AbortSignal;
}): Promise<TaskChain> {
  const { name, network, kms } = options;
  const { rpcUrl, chainId } = network;
  if (!URL.canParse(rpcUrl)) throw new ContractsError('bad-argument', `The URL of network ${name} is no URL`);
  const transport = rpcTransport(rpcUrl, options);
  const host = new URL(rpcUrl).host;
  const id = await createPublicClient({ transport })
    .getChainId()
    .catch(() => {
      // The message has the URL, and with it perhaps a key: it must not become a cause either.
      throw new ContractsError('chain-unreachable', `The chain at ${host} does not answer`);
    });
  if (chainId !== undefined && id !== chainId) {
    throw new ContractsError(
      'chain-mismatch',
      `${name} must be chain ${chainId}, but ${host} is chain ${id}`,
    );
  }
  const chain = defineChain({
    ...{ id, name },
    nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
    rpcUrls: { default: { http: [rpcUrl] } },
  });
  const pollingInterval = /^(127\.|localhost|\[::1\])/.test(host) ? 50 : 1_000;
  let signer: Awaited<ReturnType<TaskChain['signer']>> | undefined;
  return {
    network: name,
    chain,
    kms,
    public: createPublicClient({ chain, transport, pollingInterval, cacheTime: 0 }),
    async signer() {
      if (!signer) {
        signer = { account: await options.account() };
      }
      return signer;
    },
  };
}
