/** Our KMS contract with an app of each version: the 0.6 line's, its successor's, and ours. */
import { readFileSync } from 'node:fs';
import { compile, loadArtifact, loadRelease } from '@dstack-cloud/contracts';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';
import { type Abi, encodeFunctionData, type Hex, zeroHash } from 'viem';
import { type ChainLab, deployContracts } from '../../../test/chain-lab.ts';
import type { CodeName } from '../known-code.ts';

export type MixedDomain = {
  readonly kmsAbi: Abi;
  readonly appAbi: Abi;
  /** Proxies. */
  readonly kms: Hex;
  readonly old: Hex;
  readonly successor: Hex;
  readonly app: Hex;
  readonly successorImplementation: Hex;
  readonly appImplementation: Hex;
  /** The successor's code hash, for `knownCode`; the others are known. */
  readonly knownCode: Record<string, CodeName>;
};

const SOURCE = 'successor-app.sol';

export async function deployMixedDomain(lab: ChainLab): Promise<MixedDomain> {
  const contracts = await deployContracts(lab);
  const text = readFileSync(new URL(SOURCE, import.meta.url), 'utf8');
  const { abi, evm } = compile(new Map([[SOURCE, text]]), import.meta.dirname).get(`${SOURCE}:SuccessorApp`)!;
  const successorImplementation = await lab.deploy({ abi, bytecode: `0x${evm.bytecode.object}` });
  const release = loadRelease('0.6', 'DstackApp');
  const setUp = encodeFunctionData({
    abi: release.abi,
    functionName: 'initialize',
    args: [lab.owner, false, false, zeroHash, zeroHash],
  });
  const code = await lab.rpc<string>('eth_getCode', successorImplementation, 'latest');
  return {
    ...contracts,
    appAbi: loadArtifact('DstackApp').abi,
    old: await lab.proxy(await lab.deploy(release), setUp),
    successor: await lab.proxy(successorImplementation),
    successorImplementation,
    knownCode: {
      [`0x${toHex(keccak256(fromHex(code, { prefix: 'allow' })))}`]: 'dstack-app-2',
    },
  };
}
