import type { Address, Hex, TransactionReceipt } from 'viem';
import { dstackAppAbi } from './abi/dstack-app.ts';
import { dstackKmsAbi } from './abi/dstack-kms.ts';
import type { ChainClient } from './chain-client.ts';
import { ContractsError } from './errors.ts';
import { transact } from './transact.ts';

/** Write one 32-byte measurement; the receipt is the result. */
export type MeasurementWrite = (
  client: ChainClient,
  contract: Address,
  value: Hex,
) => Promise<TransactionReceipt>;

/** A 32-byte value, 0x hex; short values are refused here, because padding could allow another measurement. */
function bytes32(value: Hex): Hex {
  if (/^0x[0-9a-fA-F]{64}$/.test(value)) return value;
  throw new ContractsError('bad-argument', `Expected 32 bytes as 0x hex, found ${value}`);
}

const kmsWrite =
  (functionName: string): MeasurementWrite =>
  (client, kms, value) =>
    transact(client, kms, dstackKmsAbi, functionName, [bytes32(value)]);

const appWrite =
  (functionName: string): MeasurementWrite =>
  (client, app, value) =>
    transact(client, app, dstackAppAbi, functionName, [bytes32(value)]);

/** Allow an OS image in the KMS registry. */
export const addOsImageHash: MeasurementWrite = kmsWrite('addOsImageHash');
/** Stop allowing an OS image. */
export const removeOsImageHash: MeasurementWrite = kmsWrite('removeOsImageHash');
/** Allow an aggregated measurement for the KMS itself. */
export const addKmsAggregatedMr: MeasurementWrite = kmsWrite('addKmsAggregatedMr');
/** Stop allowing an aggregated measurement for the KMS. */
export const removeKmsAggregatedMr: MeasurementWrite = kmsWrite('removeKmsAggregatedMr');
/** Allow a device for the KMS itself. */
export const addKmsDevice: MeasurementWrite = kmsWrite('addKmsDevice');
/** Stop allowing a device for the KMS. */
export const removeKmsDevice: MeasurementWrite = kmsWrite('removeKmsDevice');
/** Allow a compose hash in an app contract. */
export const addComposeHash: MeasurementWrite = appWrite('addComposeHash');
/** Stop allowing a compose hash in an app contract. */
export const removeComposeHash: MeasurementWrite = appWrite('removeComposeHash');
/** Allow a device in an app contract. */
export const addDevice: MeasurementWrite = appWrite('addDevice');
/** Stop allowing a device in an app contract. */
export const removeDevice: MeasurementWrite = appWrite('removeDevice');

/** Public identity of a KMS, all parts 0x hex. */
export type KmsInfo = { k256Pubkey: Hex; caPubkey: Hex; quote: Hex; eventlog: Hex };

/** Publish the identity of the KMS on chain. */
export function setKmsInfo(client: ChainClient, kms: Address, info: KmsInfo): Promise<TransactionReceipt> {
  return transact(client, kms, dstackKmsAbi, 'setKmsInfo', [info]);
}

/** Name the gateway's app id. */
export function setGatewayAppId(
  client: ChainClient,
  kms: Address,
  appId: string,
): Promise<TransactionReceipt> {
  return transact(client, kms, dstackKmsAbi, 'setGatewayAppId', [appId]);
}

/** Register an app contract that the factory did not create. */
export function registerApp(client: ChainClient, kms: Address, appId: Address): Promise<TransactionReceipt> {
  return transact(client, kms, dstackKmsAbi, 'registerApp', [appId]);
}

/** Choose between an app's device list and any device. */
export function setAllowAnyDevice(
  client: ChainClient,
  app: Address,
  allowAny: boolean,
): Promise<TransactionReceipt> {
  return transact(client, app, dstackAppAbi, 'setAllowAnyDevice', [allowAny]);
}

/** Read the published identity of a KMS. */
export async function readKmsInfo(client: Pick<ChainClient, 'public'>, kms: Address): Promise<KmsInfo> {
  const [k256Pubkey, caPubkey, quote, eventlog] = await client.public.readContract({
    address: kms,
    abi: dstackKmsAbi,
    functionName: 'kmsInfo',
  });
  return { k256Pubkey, caPubkey, quote, eventlog };
}
