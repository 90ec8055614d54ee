/** A chain with the contracts for key services of the lab, and workloads registered on it. */
import {
  type BootInfo,
  bootInfo,
  vendorRoots,
  verifyAttestation,
  withTdxRoot,
} from '@dstack-cloud/attestation';
import {
  type Anvil,
  addComposeHash,
  addKmsAggregatedMr,
  addKmsDevice,
  addOsImageHash,
  type ChainClient,
  connectChain,
  deployApp,
  deployKms,
  removeComposeHash,
  startAnvil,
} from '@dstack-cloud/contracts';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import type { KmsHost, KmsLab } from './kms-lab.ts';
import { labWorkload } from './kms-lab.ts';
import { attest, bootOf, type Workload } from './simulated-workload.ts';

export type LabChain = {
  readonly anvil: Anvil;
  readonly client: ChainClient;
  readonly kms: `0x${string}`;
  /** Allows this machine to be a KMS. */
  registerKms(host: KmsHost): Promise<void>;
  /** Deploys an app contract; allows the workload's compose hash on any device. */
  registerApp(name: string): Promise<Workload>;
  setAllowed(workload: Workload, allowed: boolean): Promise<void>;
  stop(): Promise<void>;
};

/** @param blockTimeSeconds blocks come without transactions too, when given */
export async function startLabChain(lab: KmsLab, blockTimeSeconds?: number): Promise<LabChain> {
  const anvil = await startAnvil({
    cwd: lab.directory,
    ...(blockTimeSeconds === undefined ? {} : { blockTimeSeconds }),
  });
  try {
    const [owner] = anvil.accounts;
    if (owner === undefined) throw new Error('anvil made no account');
    const client = await connectChain({ rpcUrl: anvil.rpcUrl, privateKey: owner.privateKey });
    const { kms } = await deployKms({ client });
    const image = labWorkload('').image;
    await addOsImageHash(client, kms, `0x${toHex(bootOf(image).osImageHash)}`);
    return {
      anvil,
      client,
      kms,
      async registerKms(host) {
        const { mrAggregated, deviceId } = await measurementsOf(lab, host);
        await addKmsAggregatedMr(client, kms, `0x${toHex(mrAggregated)}`);
        await addKmsDevice(client, kms, `0x${toHex(deviceId)}`);
      },
      async registerApp(name) {
        const workload = labWorkload(name);
        const composeHash = `0x${toHex(workload.composeHash)}` as const;
        const { appId } = await deployApp({ client, kms, allowAnyDevice: true, composeHash });
        return { ...workload, appId: fromHex(appId.slice(2).toLowerCase()) };
      },
      async setAllowed({ appId, composeHash }, allowed) {
        const change = allowed ? addComposeHash : removeComposeHash;
        await change(client, `0x${toHex(appId)}`, `0x${toHex(composeHash)}`);
      },
      stop: () => anvil.stop(),
    };
  } catch (error) {
    await anvil.stop();
    throw error;
  }
}

/** What a machine's own evidence says, as its operator would register it. */
export async function measurementsOf({ hardware }: KmsLab, { workload }: KmsHost): Promise<BootInfo> {
  const now = Math.floor(Date.now() / 1000);
  const verified = await verifyAttestation(attest(hardware, workload, new Uint8Array(64)), {
    roots: withTdxRoot(vendorRoots(), hardware.rootDer),
    collateral: hardware.collateralSource(() => now),
    now,
  });
  return bootInfo(verified, { bootTime: false });
}

/** `core.auth_api` that reads this chain through these endpoints. */
export function chainPolicyConfig(chain: LabChain, rpcUrls: string[], more: object = {}): object {
  return {
    type: 'chain',
    chain: { rpc_urls: rpcUrls, kms_contract: chain.kms, chain_id: chain.anvil.chainId, ...more },
  };
}
