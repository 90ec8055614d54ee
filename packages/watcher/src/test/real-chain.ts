import {
  type Anvil,
  buildContracts,
  type ChainClient,
  connectChain,
  deployCode,
  loadArtifact,
  startAnvil,
} from '@dstack-cloud/contracts';
import { createSafe, safeArtifact } from '@dstack-cloud/governance';
import { type Address, zeroAddress } from 'viem';

/** A local chain with our contracts ready to deploy. */
export type RealChain = {
  readonly anvil: Anvil;
  /** By number of the development account. */
  client(index: number): Promise<ChainClient>;
};

/** One exchange with a chain that shares a busy machine. */
const TIMEOUT_MS = 60_000;

export async function startChain(): Promise<RealChain> {
  await buildContracts();
  const anvil = await startAnvil();
  const { rpcUrl, accounts } = anvil;
  return {
    anvil,
    client: (index) =>
      connectChain({
        ...{ rpcUrl, privateKey: accounts[index]!.privateKey },
        ...{ pollingIntervalMs: 10, timeoutMs: TIMEOUT_MS },
      }),
  };
}

/** A Timelock whose proposer and executor, if any, is one account. */
export async function deployTimelock(
  client: ChainClient,
  delay: bigint,
  account?: Address,
): Promise<Address> {
  const { abi, bytecode } = loadArtifact('DstackTimelock');
  const role = account === undefined ? [] : [account];
  return (await deployCode(client, abi, bytecode, [delay, role, role, zeroAddress, 0n])).address;
}

/** A Safe 1.4.1, with the contracts that it needs. */
export async function deploySafe(
  client: ChainClient,
  owners: readonly Address[],
  threshold: number,
): Promise<Address> {
  const make = async (name: Parameters<typeof safeArtifact>[0]): Promise<Address> => {
    const { abi, bytecode } = safeArtifact(name);
    return (await deployCode(client, abi, bytecode)).address;
  };
  const { address, call } = createSafe({
    factory: await make('SafeProxyFactory'),
    singleton: await make('SafeL2'),
    fallbackHandler: await make('CompatibilityFallbackHandler'),
    proxyCode: safeArtifact('SafeProxy').bytecode,
    ...{ owners, threshold, saltNonce: 0n },
  });
  const { to, data } = call;
  const hash = await client.wallet.sendTransaction({ to, data, account: client.account, chain: null });
  await client.public.waitForTransactionReceipt({ hash, timeout: TIMEOUT_MS });
  return address;
}
