/** Writes to a local chain that may be set back between two writes, as a reorganisation does; looks into any block of it. */
import { dstackAppAbi, dstackKmsAbi } from '@dstack-cloud/contracts';
import { type Address, encodeFunctionData, type Hex } from 'viem';
import type { LabChain } from './kms-chain.ts';

type AppWrite = 'addComposeHash' | 'removeComposeHash';
type KmsWrite = 'addOsImageHash' | 'removeOsImageHash' | 'addKmsAggregatedMr' | 'removeKmsAggregatedMr';

export type ChainControl = {
  app(app: Address, write: AppWrite, value: Hex): Promise<void>;
  kms(write: KmsWrite, value: Hex): Promise<void>;
  /** An empty block. */
  mine(): Promise<void>;
  /** The name of the present state. */
  snapshot(): Promise<Hex>;
  /** Goes back to that state; what came after it never happened. The name is used up. */
  revert(name: Hex): Promise<void>;
  /** The number and the time of the head. */
  head(): Promise<{ readonly number: number; readonly timestamp: number }>;
  isComposeHashAllowed(app: Address, value: Hex, block: bigint): Promise<boolean>;
};

export function controlChain({ client, kms }: LabChain): ChainControl {
  const from = client.account.address;
  // Raw calls: a client that counts nonces itself would be confused by a chain that forgets transactions.
  const call = async (method: string, params: unknown[]): Promise<unknown> =>
    (client.public.request as (request: { method: string; params: unknown[] }) => Promise<unknown>)({
      method,
      params,
    });
  let count = 0;
  const send = async (to: Address, data: Hex): Promise<void> => {
    // The same transaction after a revert would have the same hash, and anvil still knows the old receipt.
    count += 1;
    const gas = `0x${(1_000_000 + count).toString(16)}`;
    const hash = (await call('eth_sendTransaction', [{ from, to, data, gas }])) as Hex;
    const { status } = await client.public.waitForTransactionReceipt({ hash, timeout: 10_000 });
    if (status !== 'success') throw new Error(`Transaction ${hash} reverted`);
  };
  return {
    app: (app, functionName, value) =>
      send(app, encodeFunctionData({ abi: dstackAppAbi, functionName, args: [value] })),
    kms: (functionName, value) =>
      send(kms, encodeFunctionData({ abi: dstackKmsAbi, functionName, args: [value] })),
    mine: async () => void (await call('evm_mine', [])),
    snapshot: async () => (await call('evm_snapshot', [])) as Hex,
    async revert(name) {
      if ((await call('evm_revert', [name])) !== true) throw new Error(`No snapshot ${name}`);
    },
    async head() {
      const block = (await call('eth_getBlockByNumber', ['latest', false])) as Record<string, Hex>;
      return { number: Number(block['number']), timestamp: Number(block['timestamp']) };
    },
    isComposeHashAllowed: (address, value, blockNumber) =>
      client.public.readContract({
        address,
        abi: dstackAppAbi,
        functionName: 'allowedComposeHashes',
        args: [value],
        blockNumber,
      }),
  };
}
