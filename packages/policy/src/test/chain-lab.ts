/** A local chain with a KMS and an app, written to by raw JSON-RPC: nothing is cached, so states can be taken back. */
import {
  type Artifact,
  buildContracts,
  loadArtifact,
  loadRelease,
  type Release,
  startAnvil,
} from '@dstack-cloud/contracts';
import { type Abi, encodeDeployData, encodeFunctionData, type Hex } from 'viem';
import { vi } from 'vitest';
import type { ChainPolicyOptions } from '../chain/chain-options.ts';
import { type ChainPolicy, chainPolicy } from '../chain/chain-policy.ts';

/** The parts of a compiled contract that a test deploys. */
type Deployable = { readonly abi: Abi; readonly bytecode: Hex };

export type ChainLab = {
  readonly url: string;
  readonly chainId: number;
  /** Owner of everything, and somebody else. */
  readonly owner: Hex;
  readonly stranger: Hex;
  rpc<T = unknown>(method: string, ...params: unknown[]): Promise<T>;
  deploy(contract: Deployable, args?: readonly unknown[]): Promise<Hex>;
  /** A proxy of `implementation`, not initialised unless `setUp` does. */
  proxy(implementation: Hex, setUp?: Hex): Promise<Hex>;
  /** Send a call and wait for its block. @throws Error when it reverts */
  send(to: Hex, abi: Abi, name: string, args?: readonly unknown[], from?: Hex): Promise<void>;
  /** A policy over this chain, whose clock is the chain's. */
  policy(kmsContract: Hex, options?: Partial<ChainPolicyOptions>): ChainPolicy;
  stop(): Promise<void>;
};

/** Time of the chain does not follow ours when a test moves it. */
const ANY_AGE_SECONDS = 1e9;

export async function startChainLab(): Promise<ChainLab> {
  await buildContracts();
  const anvil = await startAnvil();
  const [owner, stranger] = anvil.accounts.map(({ address }) => address) as [Hex, Hex];
  const policies: ChainPolicy[] = [];

  const rpc: ChainLab['rpc'] = async (method, ...params) => {
    const answer = await fetch(anvil.rpcUrl, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    });
    const { result, error } = (await answer.json()) as { result: never; error?: { message: string } };
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  };
  const transact = async (transaction: object): Promise<Hex> => {
    // More than any of these transactions needs; an estimate would be one more exchange.
    const hash = await rpc('eth_sendTransaction', { gas: '0x989680', ...transaction });
    // The block is made at once, and now and then a moment after the answer.
    const receipt = await vi.waitUntil(
      () => rpc<{ status: Hex; contractAddress: Hex } | null>('eth_getTransactionReceipt', hash),
      { timeout: 10_000, interval: 5 },
    );
    if (receipt.status !== '0x1') throw new Error('a transaction reverted');
    return receipt.contractAddress;
  };
  const deploy: ChainLab['deploy'] = ({ abi, bytecode }, args = []) =>
    transact({ from: owner, data: encodeDeployData({ abi, bytecode, args }) });

  return {
    url: anvil.rpcUrl,
    chainId: anvil.chainId,
    owner,
    stranger,
    rpc,
    deploy,
    proxy: (implementation, setUp = '0x') => deploy(loadArtifact('ERC1967Proxy'), [implementation, setUp]),
    async send(to, abi, functionName, args = [], from = owner) {
      await transact({ from, to, data: encodeFunctionData({ abi, functionName, args }) });
    },
    policy(kmsContract, options = {}) {
      const policy = chainPolicy({
        rpcUrls: [anvil.rpcUrl],
        kmsContract,
        chainId: anvil.chainId,
        maxBlockAgeSeconds: ANY_AGE_SECONDS,
        maxClockSkewSeconds: ANY_AGE_SECONDS,
        ...options,
      });
      policies.push(policy);
      return policy;
    },
    async stop() {
      for (const policy of policies) policy.close?.();
      await anvil.stop();
    },
  };
}

/** DstackKms and one DstackApp, owned by the lab's owner. */
export type LabContracts = {
  readonly kmsAbi: Abi;
  readonly appAbi: Abi;
  readonly kms: Hex;
  readonly app: Hex;
  readonly kmsImplementation: Hex;
  readonly appImplementation: Hex;
};

/** @param release whose code; default: the present one */
export async function deployContracts(lab: ChainLab, release?: Release): Promise<LabContracts> {
  const load = (name: 'DstackKms' | 'DstackApp'): Artifact =>
    release === undefined ? loadArtifact(name) : loadRelease(release, name);
  const [kmsArtifact, appArtifact] = [load('DstackKms'), load('DstackApp')];
  const appImplementation = await lab.deploy(appArtifact);
  const kmsImplementation = await lab.deploy(kmsArtifact);
  const { abi: kmsAbi } = kmsArtifact;
  const { abi: appAbi } = appArtifact;
  const kms = await lab.proxy(
    kmsImplementation,
    encodeFunctionData({ abi: kmsAbi, functionName: 'initialize', args: [lab.owner, appImplementation] }),
  );
  const zero = `0x${'00'.repeat(32)}`;
  const app = await lab.proxy(
    appImplementation,
    encodeFunctionData({
      abi: appAbi,
      functionName: 'initialize',
      args: [lab.owner, false, false, zero, zero],
    }),
  );
  return { kmsAbi, appAbi, kms, app, kmsImplementation, appImplementation };
}
