/** Our KMS contract with an app of each version: the 0.6 line's, its successor's, and ours. */
import { readFileSync } from 'node:fs';
import { compile, loadArtifact, loadRelease } from '@dstack-cloud/contracts';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';
import { type Abi, encodeFunctionData, type Hex, pad, zeroHash } from 'viem';
import { type ChainLab, deployContracts } from '../../../test/chain-lab.ts';
import type { CodeName } from '../../contracts/known-code.ts';

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
/** Where OpenZeppelin's OwnableUpgradeable keeps the owner (ERC-7201, `openzeppelin.storage.Ownable`). */
const OWNER_SLOT = '0x9016d09d72d40fdae2fd8ceac6b6234c7706214fd39c1cd1e609a0528c199300';

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
  const successor = await lab.proxy(successorImplementation);
  // The stand-in asks nobody who calls; the contract that it may be upgraded to does.
  await lab.rpc('anvil_setStorageAt', successor, OWNER_SLOT, pad(lab.owner));
  return {
    ...contracts,
    appAbi: loadArtifact('DstackApp').abi,
    old: await lab.proxy(await lab.deploy(release), setUp),
    successor,
    successorImplementation,
    knownCode: {
      [`0x${toHex(keccak256(fromHex(code, { prefix: 'allow' })))}`]: 'dstack-app-2',
    },
  };
}
