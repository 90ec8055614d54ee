import {
  addKmsAggregatedMr,
  addKmsDevice,
  addOsImageHash,
  type ChainClient,
  connectChain,
  deployKms,
  setKmsInfo,
} from '@dstack-cloud/contracts';
import type { KmsIdentity, KmsMeasurements } from './kms.ts';
import type { Chain } from './start-chain.ts';

export interface Contracts {
  readonly client: ChainClient;
  /** The DstackKms proxy. */
  readonly kms: `0x${string}`;
}

export async function deployContracts(chain: Chain): Promise<Contracts> {
  const client = await connectChain({ rpcUrl: chain.rpcUrl, privateKey: chain.ownerKey });
  const { kms } = await deployKms({ client });
  return { client, kms };
}

/** What an operator does after reading GetAttestationInfo (docs/protocol/kms.md section 6.1). */
export async function registerKms({ client, kms }: Contracts, measured: KmsMeasurements): Promise<void> {
  await addOsImageHash(client, kms, `0x${measured.osImageHash}`);
  await addKmsAggregatedMr(client, kms, `0x${measured.mrAggregated}`);
  await addKmsDevice(client, kms, `0x${measured.deviceId}`);
}

/** Makes the root keys known, so that everybody can tell this KMS from another. */
export async function publishKms({ client, kms }: Contracts, identity: KmsIdentity): Promise<void> {
  await setKmsInfo(client, kms, {
    k256Pubkey: `0x${identity.k256Pubkey}`,
    caPubkey: `0x${identity.caPubkey}`,
    quote: `0x${identity.attestation}`,
    eventlog: '0x',
  });
}
