/** One local chain with a KMS and an app, for the tests of one file. */
import type { Address, Hex } from 'viem';
import { type Anvil, startAnvil } from '../anvil.ts';
import { buildContracts } from '../build.ts';
import { type ChainClient, connectChain } from '../chain-client.ts';
import { deployApp, deployKms, type KmsDeployment } from '../deploy.ts';

export type TestChain = {
  readonly anvil: Anvil;
  readonly owner: ChainClient;
  readonly stranger: ChainClient;
  readonly deployment: KmsDeployment;
  readonly kms: Address;
  readonly app: Address;
};

export async function startTestChain(): Promise<TestChain> {
  await buildContracts();
  const anvil = await startAnvil();
  const [first, second] = anvil.accounts;
  const owner = await connectChain({
    rpcUrl: anvil.rpcUrl,
    privateKey: first!.privateKey,
    pollingIntervalMs: 10,
  });
  const stranger = await connectChain({
    rpcUrl: anvil.rpcUrl,
    privateKey: second!.privateKey,
    pollingIntervalMs: 10,
  });
  const deployment = await deployKms({ client: owner });
  const { appId } = await deployApp({ client: owner, kms: deployment.kms });
  return { anvil, owner, stranger, deployment, kms: deployment.kms, app: appId };
}

/** Boot information as the contracts take it. */
export type BootInfo = {
  readonly appId: Address;
  readonly composeHash: Hex;
  readonly instanceId: Address;
  readonly deviceId: Hex;
  readonly mrAggregated: Hex;
  readonly mrSystem: Hex;
  readonly osImageHash: Hex;
  readonly tcbStatus: string;
  readonly advisoryIds: readonly string[];
};

/** `count` equal bytes, 0x hex. */
export function repeated(byte: string, count: number): Hex {
  return `0x${byte.repeat(count)}`;
}

/** Boot information that recorded call data was made of. */
export const vectorBootInfo: BootInfo = {
  appId: repeated('11', 20),
  composeHash: repeated('22', 32),
  instanceId: repeated('33', 20),
  deviceId: repeated('44', 32),
  mrAggregated: repeated('55', 32),
  mrSystem: repeated('66', 32),
  osImageHash: repeated('77', 32),
  tcbStatus: 'UpToDate',
  advisoryIds: ['INTEL-SA-00837'],
};
