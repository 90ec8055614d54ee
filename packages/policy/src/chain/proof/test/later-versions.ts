/** Contracts that decide as the later versions do, deployed behind proxies of ours, with a setter for every input. */
import { readFileSync } from 'node:fs';
import { compile } from '@dstack-cloud/contracts';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';
import type { Abi, Hex } from 'viem';
import type { ChainLab, Deployable } from '../../../test/chain-lab.ts';
import type { CodeName } from '../known-code.ts';

export type LaterVersions = {
  readonly kmsAbi: Abi;
  readonly appAbi: Abi;
  /** Proxies. */
  readonly kms: Hex;
  readonly app2: Hex;
  readonly app3: Hex;
  readonly app2Implementation: Hex;
  readonly app3Implementation: Hex;
  /** Their code hashes, for `knownCode`. */
  readonly knownCode: Record<string, CodeName>;
};

const SOURCE = 'later-versions.sol';

export async function deployLaterVersions(lab: ChainLab): Promise<LaterVersions> {
  const text = readFileSync(new URL(SOURCE, import.meta.url), 'utf8');
  const compiled = compile(new Map([[SOURCE, text]]), import.meta.dirname);
  const contract = (name: string): Deployable => {
    const { abi, evm } = compiled.get(`${SOURCE}:${name}`)!;
    return { abi, bytecode: `0x${evm.bytecode.object}` };
  };
  const [kms3, app2, app3] = ['Kms3', 'App2', 'App3'].map(contract) as [Deployable, Deployable, Deployable];
  const [kmsImplementation, app2Implementation, app3Implementation] = [
    await lab.deploy(kms3),
    await lab.deploy(app2),
    await lab.deploy(app3),
  ];
  const hashOf = async (address: Hex): Promise<string> => {
    const code = await lab.rpc<string>('eth_getCode', address, 'latest');
    return `0x${toHex(keccak256(fromHex(code, { prefix: 'allow' })))}`;
  };
  return {
    kmsAbi: kms3.abi,
    appAbi: app2.abi,
    kms: await lab.proxy(kmsImplementation),
    app2: await lab.proxy(app2Implementation),
    app3: await lab.proxy(app3Implementation),
    app2Implementation,
    app3Implementation,
    knownCode: {
      [await hashOf(kmsImplementation)]: 'dstack-kms-3',
      [await hashOf(app2Implementation)]: 'dstack-app-2',
      [await hashOf(app3Implementation)]: 'dstack-app-3',
    },
  };
}
